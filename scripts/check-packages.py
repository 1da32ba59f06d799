#!/usr/bin/env python3
"""Checks that no package in Cargo.lock needs a newer Rust than ours, that deny.toml allows its license, name and source, and
that docs/design.md says what each dependency of the workspace is for.

cargo-deny checks more, with the same file, but takes minutes to install: see scripts/audit.sh.
"""

import json
import os
import re
import subprocess
import sys
import tomllib

CRATES_IO = "registry+https://github.com/rust-lang/crates.io-index"


def load(path):
    with open(path, "rb") as file:
        return tomllib.load(file)


def version(text):
    numbers = [int(number) for number in text.split("-")[0].split(".")]
    return numbers + [0] * (3 - len(numbers))


def allowed(expression, licenses):
    """Returns whether an SPDX expression is satisfied by these licenses. Exceptions (WITH) are not allowed."""
    expression = re.sub(r"([\w.+-]+) WITH ([\w.+-]+)", r"\1-WITH-\2", expression.replace("/", " OR "))
    tokens = re.findall(r"[()]|[\w.+-]+", expression)
    python = [{"OR": "or", "AND": "and"}.get(token, token if token in "()" else str(token in licenses)) for token in tokens]
    try:
        return bool(eval(" ".join(python), {"__builtins__": {}}))
    except SyntaxError:
        return False


def main():
    os.chdir(os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
    workspace = load("Cargo.toml")["workspace"]
    ours = workspace["package"]["rust-version"]
    deny = load("deny.toml")
    command = ["cargo", "metadata", "--locked", "--format-version", "1", "--all-features"]
    packages = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)["packages"]

    problems = []
    with open("docs/design.md", encoding="utf-8") as design:
        explained = {name for cell in re.findall(r"^\| ([^|]+) \|", design.read(), re.MULTILINE) for name in cell.split(", ")}
    for name, dependency in workspace["dependencies"].items():
        if name not in explained and "path" not in dependency:
            problems.append(f"docs/design.md does not say what {name} is for")
    for package in packages:
        name = f"{package['name']} {package['version']}"
        if package["rust_version"] and version(package["rust_version"]) > version(ours):
            problems.append(f"{name} needs Rust {package['rust_version']}, ours is {ours}")
        if not allowed(package["license"] or "none", deny["licenses"]["allow"]):
            problems.append(f"{name} has the license {package['license']}, which deny.toml does not allow")
        if package["name"] in deny["bans"]["deny"]:
            problems.append(f"{name} is banned by deny.toml")
        if package["source"] not in (None, CRATES_IO):
            problems.append(f"{name} comes from {package['source']}")
    for problem in problems:
        print(f"check-packages: {problem}", file=sys.stderr)
    if not problems:
        print(f"All {len(packages)} packages build with Rust {ours} and have allowed licenses, names and sources.")
    return bool(problems)


if __name__ == "__main__":
    sys.exit(main())
