"""Finds and builds the programs."""

import json
import os
import shutil
import subprocess

FOLDER = "target/bench"


def build(name, features, *arguments):
    """Builds a program of this repository. Returns the path of a copy, as the next build may overwrite it."""
    print(f"Building {name}{' with ' + features if features else ''} ...", flush=True)
    command = ["cargo", "build", "--locked", "--quiet", "--release", "--message-format=json-render-diagnostics"]
    command += ["-p", "retry-service", *arguments] + (["--features", features] if features else [])
    messages = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()
    built = [path for path in (json.loads(message).get("executable") for message in messages) if path]
    os.makedirs(FOLDER, exist_ok=True)
    return os.path.abspath(shutil.copy(built[-1], os.path.join(FOLDER, f"{name}-{features}" if features else name)))


def build_gateway(features):
    return build("retry-service", features, "--bin", "retry-service")


def build_bench(features):
    """Builds the bench's own programs, apart from the gateway: an example enables features of dev-dependencies."""
    return build("bench", features, "--example", "bench")


def allocator():
    """Returns the feature of the gateway in docs/deploy/Containerfile, which takes make to build."""
    return "jemalloc" if shutil.which("make") else ""


def find_envoy():
    """Returns the path of Envoy: scripts/compare-faults.py downloads it."""
    kept = os.path.abspath("target/envoy/envoy")
    return os.environ.get("ENVOY") or shutil.which("envoy") or (kept if os.path.exists(kept) else None)
