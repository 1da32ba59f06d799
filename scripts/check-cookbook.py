#!/usr/bin/env python3
"""Compiles what the guides show as a program of somebody else would: in a crate outside of the workspace.

- Each example of docs/cookbook.md and docs/coming-from.md has to compile, with the dependencies that the cookbook names.
- So do the snippets of README.md and docs/choosing-a-policy.md, which have no `main`. The README names the same libraries.
- Each mistake of docs/compiler-messages.md has to fail, with the messages that the page quotes; what it shows as the way
  out has to compile. Messages are compared only if the compiler is the one that the page names.

    scripts/check-cookbook.py
"""

import json
import pathlib
import re
import subprocess
import sys
import tomllib

ROOT = pathlib.Path(__file__).resolve().parent.parent
CRATE = ROOT / "target/cookbook"
DOCS = ROOT / "docs"
MESSAGES = DOCS / "compiler-messages.md"
# What an example of docs/coming-from.md uses beside the dependencies that the cookbook names.
MORE = 'hyper-util = { version = "0.1", features = ["client-legacy", "http1", "tokio"] }\n'


def blocks(path, language):
    """Returns the code blocks of a language, with the line on which each begins."""
    text = path.read_text(encoding="utf-8")
    found = re.finditer(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    return [(text.count("\n", 0, block.start()) + 1, block[1]) for block in found]


def manifest():
    """Returns the manifest of the crate, with the dependencies of the cookbook. Their features are one of its own, to be
    left out for the mistake of forgetting them.
    """
    # One block for all tasks, and one for some of them, which ends with the dependencies of tests.
    (_, common), (_, rest) = blocks(DOCS / "cookbook.md", "toml")
    named = (common + MORE + rest).replace("../retry/crates", "../../crates")
    (_, short), *_ = blocks(ROOT / "README.md", "toml")
    if not tomllib.loads(short)["dependencies"].keys() <= tomllib.loads(common)["dependencies"].keys():
        sys.exit("check-cookbook: README.md names other dependencies than the cookbook")
    dependencies, found = re.subn(r'(retry-client = .*), features = \["json"\]', r"\1", named)
    if found != 1 or "dependencies" not in tomllib.loads(named):
        sys.exit("check-cookbook: the cookbook does not name its dependencies")
    feature = '[features]\njson = ["retry-client/json"]'
    package = '[package]\nname = "cookbook"\nedition = "2024"\n[lib]\npath = "lib.rs"\n[workspace]'
    return f"{package}\n{feature}\n{dependencies}"


def write(programs):
    """Writes the crate, with these programs as its examples, which may use the dependencies of tests."""
    folder = CRATE / "examples"
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.iterdir():
        if old.stem not in programs:
            old.unlink()
    write_if_changed(CRATE / "Cargo.toml", manifest())
    write_if_changed(CRATE / "lib.rs", "")
    lock = (ROOT / "Cargo.lock").read_text(encoding="utf-8")
    # Cargo changes the lock file itself.
    if write_if_changed(CRATE / "workspace.lock", lock):
        (CRATE / "Cargo.lock").write_text(lock, encoding="utf-8")
    for name, text in programs.items():
        write_if_changed(folder / f"{name}.rs", text)


def write_if_changed(path, text):
    """Writes a file unless it has this text: what has not changed is not compiled again. Returns whether it did."""
    if path.exists() and path.read_text(encoding="utf-8") == text:
        return False
    path.write_text(text, encoding="utf-8")
    return True


def messages(*what):
    """Checks programs, and returns the compiler's messages for each."""
    command = ["cargo", "check", "--quiet", "--keep-going", "--message-format", "json", "--target-dir", "..", *what]
    lines = subprocess.run(command, cwd=CRATE, stdout=subprocess.PIPE, text=True, check=False).stdout.splitlines()
    found = {}
    for message in map(json.loads, lines):
        if message["reason"] == "compiler-message" and message["message"]["level"] == "error":
            found[message["target"]["name"]] = found.get(message["target"]["name"], "") + message["message"]["rendered"]
        elif message["reason"] == "build-finished" and not message["success"] and not found:
            sys.exit("check-cookbook: the dependencies do not compile")
    return found


def words(text):
    """Returns a message without the lines and frames of the compiler's picture."""
    return " ".join(re.sub(r"^[ \d]*[|=]|^ *-->.*$|[\^~]{2,}", " ", text, flags=re.MULTILINE).split())


def main():
    if sys.argv[1:]:
        sys.exit(__doc__)
    programs, mistakes = {}, {}
    for document in (DOCS / "cookbook.md", DOCS / "coming-from.md", MESSAGES):
        for line, text in blocks(document, "rust(?:,no_run)?"):
            programs[f"{document.stem}-{line}"] = text
    for document in (ROOT / "README.md", DOCS / "choosing-a-policy.md"):
        for line, text in blocks(document, "rust"):
            programs[f"{document.stem}-{line}"] = f"#![allow(dead_code)]\nfn main() {{\n{text}}}\n"
    quotes = blocks(MESSAGES, "text")
    for (line, text), (_, quote) in zip(blocks(MESSAGES, "rust,compile_fail"), quotes, strict=True):
        mistakes[f"{MESSAGES.stem}-{line}"] = quote
        programs[f"{MESSAGES.stem}-{line}"] = text
    write(programs)
    found = messages("--examples", "--features", "json")
    for name in [name for name in mistakes if ".json(" in programs[name]]:
        found |= messages("--example", name)
    rustc = subprocess.run(["rustc", "--version"], stdout=subprocess.PIPE, text=True, check=True).stdout
    named = re.search(r"rustc (\d+\.\d+)", MESSAGES.read_text(encoding="utf-8"))[1]
    is_same = f" {named}." in rustc
    failed = False
    for name in programs:
        message = found.get(name, "")
        if name not in mistakes and message:
            failed = True
            print(f"check-cookbook: {name} does not compile:\n{message}")
        elif name in mistakes and not message:
            failed = True
            print(f"check-cookbook: {name} compiles, but is a mistake")
        elif name in mistakes and is_same:
            for line in filter(None, map(str.strip, mistakes[name].splitlines())):
                if words(line) not in words(message):
                    failed = True
                    print(f"check-cookbook: {name}: the compiler does not say '{line}', but:\n{message}")
    if failed:
        sys.exit(1)
    compared = "as quoted" if is_same else f"not compared, as they are of rustc {named}"
    print(f"check-cookbook: {len(programs) - len(mistakes)} programs compile; {len(mistakes)} mistakes do not, {compared}")


if __name__ == "__main__":
    main()
