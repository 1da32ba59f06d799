"""Writes tables into the documents, where `<!-- bench: NAME -->` marks their places."""

import os
import re

PAGE, README = "docs/performance.md", "README.md"


def write(tables):
    """Replaces the marked parts of the documents. Fails if one of them has no table."""
    for path in (PAGE, README):
        with open(path, encoding="utf-8") as file:
            page = file.read()
        pattern = r"(<!-- bench: ([\w ]+) -->\n).*?(<!-- end of bench -->)"
        page = re.sub(pattern, lambda part: f"{part[1]}{tables[part[2]]}\n{part[3]}", page, flags=re.DOTALL)
        with open(path + ".new", "w", encoding="utf-8") as file:
            file.write(page)
        os.replace(path + ".new", path)
