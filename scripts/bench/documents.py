"""Writes tables into the documents, where comments such as `<!-- bench: NAME -->` mark their places."""

import os
import re

PAGE, README = "docs/performance.md", "README.md"


def write(tables, mark="bench", paths=(PAGE, README)):
    """Replaces the parts of the documents that have this mark. Fails if one of them has no table."""
    for path in paths:
        with open(path, encoding="utf-8") as file:
            page = file.read()
        pattern = rf"(<!-- {mark}: ([\w ]+) -->\n).*?(<!-- end of {mark} -->)"
        page = re.sub(pattern, lambda part: f"{part[1]}{tables[part[2]]}\n{part[3]}", page, flags=re.DOTALL)
        with open(path + ".new", "w", encoding="utf-8") as file:
            file.write(page)
        os.replace(path + ".new", path)
