"""Where and with what a run was made."""

import datetime
import platform
import re
import shutil
import subprocess

from processes import PROCESSORS


def describe(envoy):
    """Returns a sentence with the date, the machine, the commit and the versions of all programs."""
    with open("/proc/cpuinfo", encoding="utf-8") as file:
        model = re.search(r"model name\s*: (.*)", file.read())
    date = datetime.datetime.now(datetime.timezone.utc).date()
    processors = f"{len(PROCESSORS)} processors ({model[1] if model else platform.machine()})"
    return (
        f"Measured on {date} on {processors}, {platform.system()} {platform.release()}: {', '.join(versions(envoy))}."
    )


def versions(envoy):
    commands = {
        "commit": ["git", "describe", "--always", "--dirty", "--exclude=*"],
        "nginx": ["nginx", "-v"],
        "HAProxy": ["haproxy", "-v"],
        "Envoy": [envoy, "--version"],
        "wrk": ["wrk", "-v"],
        "h2load": ["h2load", "--version"],
        "Rust": ["rustc", "--version"],
        "hyper": ["cargo", "pkgid", "hyper"],
    }
    found = []
    for name, command in commands.items():
        if command[0] and shutil.which(command[0]):
            done = subprocess.run(command, check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
            version = re.match(r"\S+", done.stdout) if name == "commit" else re.search(r"\d+\.\d+(\.\d+)?", done.stdout)
            found += [f"{name} {version[0]}"] if version else []
    return found
