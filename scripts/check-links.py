#!/usr/bin/env python3
"""Checks that every link in the Markdown files leads to a file of this repository, every anchor to a heading, and that files
and scripts mentioned by name exist. Links to other sites are not followed.
"""

import os
import re
import subprocess
import sys


def text_of(path):
    """Returns a page without its code blocks."""
    with open(path, encoding="utf-8") as file:
        text = re.sub(r"^ *```.*?^ *```", "", file.read(), flags=re.DOTALL | re.MULTILINE)
    return text


def anchors(path):
    """Returns the anchors that GitHub generates for the headings of a page."""
    found = set()
    for heading in re.findall(r"^#+ +(.+?) *#*$", text_of(path), flags=re.MULTILINE):
        plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower()
        slug, number = re.sub(r"[^\w\- ]", "", plain).replace(" ", "-"), 0
        while f"{slug}-{number}" * bool(number) in found or not number and slug in found:
            number += 1
        found.add(f"{slug}-{number}" if number else slug)
    return found


def main():
    os.chdir(os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
    files = subprocess.run(["git", "ls-files"], check=True, stdout=subprocess.PIPE, text=True).stdout.split()
    pages = [file for file in files if file.endswith(".md")]
    checked, problems = 0, []
    for page in pages:
        for name in re.findall(r"`([\w.-][\w./-]*\.(?:rs|sh|py|toml|yaml))\b", text_of(page)):
            checked += 1
            if not any(file == name or file.endswith("/" + name) for file in files):
                problems.append(f"{page}: {name}: there is no such file")
        text = re.sub(r"`[^`\n]*`", "code", text_of(page))
        targets = re.findall(r"\]\(<?([^)>\s]+)>?(?: \"[^\"]*\")?\)", text) + re.findall(r"^\[[^\]]+\]: +(\S+)", text, re.MULTILINE)
        for target in targets:
            if re.match(r"[a-z]+:", target):
                continue
            checked += 1
            path, _, anchor = target.partition("#")
            file = os.path.normpath(os.path.join(os.path.dirname(page), path)) if path else page
            if not os.path.exists(file):
                problems.append(f"{page}: {target}: there is no such file")
            elif anchor and file.endswith(".md") and anchor not in anchors(file):
                problems.append(f"{page}: {target}: there is no such heading")
    for problem in problems:
        print(f"check-links: {problem}", file=sys.stderr)
    if not problems:
        print(f"All {checked} links and file names in {len(pages)} pages are correct.")
    return bool(problems)


if __name__ == "__main__":
    sys.exit(main())
