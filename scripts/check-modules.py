#!/usr/bin/env python3
"""Checks that no two files of a crate import each other, directly or through others, and no two of its folders. Draws the
modules.

    scripts/check-modules.py              fails if there is an import cycle, or if the picture is out of date
    scripts/check-modules.py --write      updates the picture in docs/architecture.md
    scripts/check-modules.py --self-test  tests this script on small crates with and without cycles
    scripts/check-modules.py --list       prints what each file imports

A file imports another if one of its paths (in a `use`, in code, or in a string of an attribute) names something that is
defined there. Re-exports are followed to the definition, so they cannot hide a cycle; a re-export is itself an import. A
`mod` declaration is not an import. Unit tests (`#[cfg(test)]`) are ignored.
"""

import os
import re
import sys
import tempfile

TOKEN = re.compile(
    r"""
    (?P<space>\s+|//[^\n]*)
  | (?P<comment>/\*)
  | (?P<raw>b?c?r(?P<hashes>\#*)"(?s:.*?)"(?P=hashes))
  | (?P<string>[bc]?"(?:[^"\\]|\\(?s:.))*")
  | (?P<char>b?'(?:[^'\\\n]|\\(?:x[0-9a-fA-F]{2}|u\{[^}]*\}|.))')
  | (?P<lifetime>'\w+)
  | (?P<ident>(?:r\#)?[^\W\d]\w*)
  | (?P<number>\d\w*)
  | (?P<colons>::)
  | (?P<punct>.)
    """,
    re.VERBOSE,
)
OPEN, CLOSE = {"(": ")", "[": "]", "{": "}"}, {")", "]", "}"}
DEFINES = {"struct", "enum", "union", "trait", "type", "const", "static", "fn", "macro_rules"}


class Token:
    __slots__ = ("kind", "text", "line")

    def __init__(self, kind, text, line):
        self.kind, self.text, self.line = kind, text, line


def tokenize(source):
    tokens, position, line = [], 0, 1
    while position < len(source):
        match = TOKEN.match(source, position)
        kind, text = match.lastgroup, match.group()
        if kind == "hashes":
            kind = "raw"
        if kind == "comment":
            depth, end = 1, match.end()
            while depth and end < len(source):
                nested = re.compile(r"/\*|\*/").search(source, end)
                end = nested.end() if nested else len(source)
                depth += (1 if nested.group() == "/*" else -1) if nested else -depth
            text = source[position:end]
        elif kind != "space":
            tokens.append(Token(kind, text.removeprefix("r#") if kind == "ident" else text, line))
        line += text.count("\n")
        position += len(text)
    return tokens


class Module:
    """A module, in a file of its own or inline. `names` maps what is imported here to its path."""

    def __init__(self, path, file, parent):
        self.path, self.file, self.parent = path, file, parent
        self.children, self.defined, self.names, self.globs, self.uses = {}, set(), {}, [], []


class Crate:
    def __init__(self, root):
        self.root_file = root
        self.modules, self.macros, self.given_path = [], {}, None
        self.given_alternative, self.alternatives = None, {}
        self.root = self.load((), root, None, os.path.dirname(root))
        self.edges = {}
        for module in self.modules:
            self.edges.setdefault(module.file, {})
            for path, line in module.uses:
                targets = self.targets(module, path)
                for target in targets | {self.alternatives[file] for file in targets & set(self.alternatives)}:
                    if target != module.file:
                        self.edges[module.file].setdefault(target, line)

    # --- Reading

    def load(self, path, file, parent, folder):
        with open(file, encoding="utf-8") as source:
            tokens = tokenize(source.read())
        module = Module(path, file, parent)
        self.modules.append(module)
        self.read(module, tokens, 0, len(tokens), folder)
        return module

    def read(self, module, tokens, at, end, folder):
        """Reads the items between two positions. `folder` contains the files of child modules."""
        while at < end:
            token = tokens[at]
            if token.text == "#" and at + 1 < end and tokens[at + 1].text in ("[", "!"):
                at = self.attribute(module, tokens, at, end)
                if at is None:
                    return
            elif token.kind != "ident":
                at += 1
            elif token.text == "mod" and at + 2 < end and tokens[at + 1].kind == "ident" and tokens[at + 2].text in (";", "{"):
                at = self.child(module, tokens, at, folder)
            elif token.text == "use" and not self.is_capture(tokens, at):
                at = self.use(module, tokens, at)
            elif token.text == "pub" and at + 1 < end and tokens[at + 1].text == "(":
                at = closing(tokens, at + 1) + 1
            elif token.text in DEFINES:
                at = self.definition(module, tokens, at)
            else:
                at = self.path(module, tokens, at)

    @staticmethod
    def is_capture(tokens, at):
        # `impl Trait + use<'a>`
        return at + 1 < len(tokens) and tokens[at + 1].text == "<"

    def attribute(self, module, tokens, at, end):
        """Returns the position to continue at: after the item for `#[cfg(test)]`, None for `#![cfg(test)]`."""
        inner = tokens[at + 1].text == "!"
        opening = at + (2 if inner else 1)
        if opening >= end or tokens[opening].text != "[":
            return at + 1
        close = closing(tokens, opening)
        words = [token.text for token in tokens[opening + 1 : close]]
        if words[:3] == ["cfg", "(", "test"] or words[:5] == ["cfg", "(", "all", "(", "test"]:
            return None if inner else item_end(tokens, close + 1)
        if words[:2] == ["path", "="]:
            self.given_path = words[2].strip('"')
        if words[0] == "cfg_attr" and words[-4:-2] == ["path", "="]:
            self.given_alternative = words[-2].strip('"')
        for token in tokens[opening + 1 : close]:
            text = token.text.strip('"')
            if token.kind == "string" and re.fullmatch(r"\w+(::\w+)+", text):
                module.uses.append((text.split("::"), token.line))
        return opening + 1

    def child(self, module, tokens, at, folder):
        name, path = tokens[at + 1].text, module.path + (tokens[at + 1].text,)
        if tokens[at + 2].text == "{":
            child = Module(path, module.file, module)
            self.modules.append(child)
            close = closing(tokens, at + 2)
            self.read(child, tokens, at + 3, close, os.path.join(folder, name))
            module.children[name] = child
            return close + 1
        given, self.given_path = self.given_path, None
        alternative, self.given_alternative = self.given_alternative, None
        if given:
            candidates = [os.path.normpath(os.path.join(os.path.dirname(module.file), given))]
        else:
            candidates = [os.path.join(folder, name + ".rs"), os.path.join(folder, name, "mod.rs")]
        file = next((file for file in candidates if os.path.exists(file)), None)
        if file is None:
            raise SystemExit(f"check-modules: {module.file}:{tokens[at].line}: no file for module {name}")
        below = os.path.dirname(file) if given or file.endswith("mod.rs") else os.path.join(folder, name)
        if alternative:
            other = os.path.normpath(os.path.join(os.path.dirname(module.file), alternative))
            self.alternatives[file] = other
            self.load(path, other, module, below)
        module.children[name] = self.load(path, file, module, below)
        return at + 3

    def use(self, module, tokens, at):
        line = tokens[at].line
        end = at
        while tokens[end].text != ";":
            end += 1
        for path, name in use_tree([token.text for token in tokens[at + 1 : end]]):
            if path[-1] == "*":
                module.globs.append(path[:-1])
            elif name != "_":
                module.names.setdefault(name, path)
            module.uses.append((path, line))
        return end + 1

    def definition(self, module, tokens, at):
        offset = 2 if tokens[at].text == "macro_rules" else 1
        # `const fn`, `*const T` and the like name nothing here.
        name = tokens[at + offset] if at + offset < len(tokens) else None
        if name and name.kind == "ident" and name.text not in DEFINES | {"mut", "unsafe", "extern", "async"}:
            if tokens[at].text == "macro_rules":
                self.macros.setdefault(name.text, set()).add(module.file)
            module.defined.add(name.text)
            return at + offset + 1
        return at + 1

    def path(self, module, tokens, at):
        if at > 0 and tokens[at - 1].text in ("::", "."):
            return at + 1
        segments, end = [tokens[at].text], at + 1
        while end + 1 < len(tokens) and tokens[end].kind == "colons" and tokens[end + 1].kind == "ident":
            segments.append(tokens[end + 1].text)
            end += 2
        if end < len(tokens) and tokens[end].text == "!" and len(segments) == 1:
            module.uses.append((["macro!", segments[0]], tokens[at].line))
        if len(segments) > 1:
            module.uses.append((segments, tokens[at].line))
        return end

    # --- Resolving

    def targets(self, module, path):
        """Returns the files that define what this path names: none for other crates, several for a glob."""
        if path[0] == "macro!":
            return self.macros.get(path[1], set()) if path[1] not in module.names else set()
        if path[-1] == "*":
            where = self.resolve(module, path[:-1])
            if not isinstance(where, Module):
                return {where.file} if where else set()
            reached = {where.file} if where.defined else set()
            for name in list(where.names) + list(where.children):
                found = self.lookup(where, name, set())
                reached |= {found.file} if found else set()
            return reached
        found = self.resolve(module, path)
        return {found.file} if found else set()

    def resolve(self, module, path, seen=None):
        """Returns a Module, a Definition in one, or None for other crates."""
        seen = set() if seen is None else seen
        first, rest = path[0], path[1:]
        if first == "crate":
            where = self.root
        elif first in ("self", "super"):
            where = module if first == "self" else module.parent
            while rest and rest[0] == "super":
                where, rest = where.parent, rest[1:]
        else:
            where = self.lookup(module, first, seen)
        for name in rest:
            if not isinstance(where, Module):
                break  # a variant or an associated item
            where = self.lookup(where, name, seen) or Definition(where.file)
        return where

    def lookup(self, module, name, seen):
        if name in module.children:
            return module.children[name]
        if (module.path, name) in seen:
            return None
        seen.add((module.path, name))
        if name in module.names:
            path = module.names[name]
            # `use name;` is the crate of that name.
            return None if path == [name] else self.resolve(module, path, seen)
        # After the imports: methods are among these.
        if name in module.defined:
            return Definition(module.file)
        for path in module.globs:
            where = self.resolve(module, path, seen)
            found = self.lookup(where, name, seen) if isinstance(where, Module) else None
            if found:
                return found
        return None


class Definition:
    def __init__(self, file):
        self.file = file


def closing(tokens, at):
    depth = 0
    for index in range(at, len(tokens)):
        if tokens[index].kind == "punct":
            depth += (tokens[index].text in OPEN) - (tokens[index].text in CLOSE)
            if depth == 0:
                return index
    return len(tokens) - 1


def item_end(tokens, at):
    """Returns the position after the item, field or match arm that begins here."""
    while tokens[at].text == "#":
        at = closing(tokens, at + 1) + 1
    if tokens[at].text == "pub":
        at = closing(tokens, at + 1) + 1 if tokens[at + 1].text == "(" else at + 1
    word, after = tokens[at].text, tokens[at + 1].text if at + 1 < len(tokens) else ""
    to_semicolon = word in ("use", "static", "type", "let") or word == "const" and after not in ("fn", "unsafe", "async")
    has_block = word in DEFINES | {"mod", "impl", "async", "unsafe", "extern"} and not to_semicolon
    while at < len(tokens):
        text = tokens[at].text
        if text in CLOSE:
            return at
        if text in OPEN:
            at = closing(tokens, at)
            if has_block and text == "{":
                return at + 1
        elif text == ";" or text == "," and not (has_block or to_semicolon):
            return at + 1
        at += 1
    return at


def use_tree(texts):
    """Yields each path of a `use` tree and the name that it introduces."""
    prefix, at = [], 0
    while at < len(texts):
        text = texts[at]
        if text == "{":
            depth, part = 0, []
            for inner in texts[at:]:
                depth += (inner == "{") - (inner == "}")
                if depth == 0 or depth == 1 and inner == ",":
                    if part:
                        for path, name in use_tree(part):
                            path = prefix + path
                            if path[-1] == "self" and len(path) > 1:
                                path, name = path[:-1], path[-2] if name == "self" else name
                            yield path, name
                    part = []
                elif not (depth == 1 and inner == "{"):
                    part.append(inner)
                if depth == 0:
                    return
        elif text == "as":
            yield prefix, texts[at + 1]
            return
        elif text != "::":
            prefix.append(text)
        at += 1
    yield prefix, prefix[-1]


def cycles(edges):
    """Returns the groups of nodes that reach each other (Tarjan's algorithm)."""
    index, low, stack, on_stack, groups = {}, {}, [], set(), []

    def visit(node):
        index[node] = low[node] = len(index)
        stack.append(node)
        on_stack.add(node)
        for target in edges.get(node, ()):
            if target not in index:
                visit(target)
                low[node] = min(low[node], low[target])
            elif target in on_stack:
                low[node] = min(low[node], index[target])
        if low[node] == index[node]:
            group = []
            while not group or group[-1] != node:
                group.append(stack.pop())
                on_stack.discard(group[-1])
            if len(group) > 1:
                groups.append(sorted(group))

    sys.setrecursionlimit(10_000)
    for node in sorted(edges):
        if node not in index:
            visit(node)
    return groups


def roots(folder):
    """Returns the root files of a package's targets."""
    found = [os.path.join(folder, "src", name) for name in ("lib.rs", "main.rs")]
    for kind in ("examples", "tests", "benches"):
        parent = os.path.join(folder, kind)
        for name in sorted(os.listdir(parent)) if os.path.isdir(parent) else []:
            found += [os.path.join(parent, name)] if name.endswith(".rs") else [os.path.join(parent, name, "main.rs")]
    return [root for root in found if os.path.exists(root)]


def shortest(edges, group):
    """Returns a shortest cycle within a group, as a list of nodes."""
    best = None
    for start in group:
        came_from, queue = {}, [start]
        while queue and start not in came_from:
            node = queue.pop(0)
            for target in edges[node]:
                if target in group and target not in came_from:
                    came_from[target] = node
                    queue.append(target)
        cycle, node = [start], came_from[start]
        while node != start:
            cycle.append(node)
            node = came_from[node]
        if best is None or len(cycle) < len(best):
            best = cycle
    return best[::-1]


def report(crates):
    """Prints a shortest cycle of each group of files, or of folders, that import each other. Returns whether there are any."""
    groups = {tuple(group): crate for crate in crates for group in cycles(crate.edges)}
    for group, crate in groups.items():
        cycle = shortest(crate.edges, group)
        print(f"check-modules: {len(group)} files import each other, for example:", file=sys.stderr)
        for file, target in zip(cycle, cycle[1:] + cycle[:1]):
            print(f"  {file}:{crate.edges[file][target]} imports {target}", file=sys.stderr)
    for crate in crates if not groups else []:
        edges = folders(crate)
        for group in cycles(edges):
            print(f"check-modules: {', '.join(group)} import each other, for example:", file=sys.stderr)
            cycle = shortest(edges, group)
            for node, target in zip(cycle, cycle[1:] + cycle[:1]):
                print(f"  {edges[node][target]} imports from {target}", file=sys.stderr)
            groups[tuple(group)] = crate
    return bool(groups)


# --- The picture

ARCHITECTURE = "docs/architecture.md"
BEGIN, END = "<!-- modules -->", "<!-- end of modules -->"
PANELS = [["retry-service", "delayed-backend"], ["retry-client", "retry-core"]]
WIDTH = 62


def folders(crate):
    """Returns what each top-level module or folder of a crate imports, with a file and a line for each import."""
    source = os.path.dirname(crate.root_file)

    def name(file):
        return os.path.relpath(file, source).split(os.sep)[0].removesuffix(".rs")

    edges = {}
    for file, targets in crate.edges.items():
        if file != crate.root_file:
            imported = edges.setdefault(name(file), {})
            for target, line in targets.items():
                if target != crate.root_file and name(target) != name(file):
                    imported.setdefault(name(target), f"{file}:{line}")
    return edges


def levels(edges):
    """Returns the nodes in rows, each of which imports only from rows below."""
    height = {}

    def measure(node):
        if node not in height:
            height[node] = 1 + max((measure(target) for target in edges[node]), default=-1)
        return height[node]

    for node in edges:
        measure(node)
    top = max(height.values())
    return [sorted(node for node in edges if height[node] == level) for level in range(top, -1, -1)]


def panel(crate):
    """Returns a box with a crate's modules, as lines of equal width."""
    edges = folders(Crate(os.path.join("crates", crate, "src/lib.rs")))
    title = f"┌─ {crate} "
    lines = [title + "─" * (WIDTH - len(title) - 1) + "┐"]
    for row in levels(edges):
        line = ""
        for node in row:
            if line and len(line) + len(node) + 3 > WIDTH - 4:
                lines.append(f"│ {line:{WIDTH - 4}} │")
                line = "  "
            line += ("  " if line.strip() else "") + node
        lines.append(f"│ {line:{WIDTH - 4}} │")
    return lines + ["└" + "─" * (WIDTH - 2) + "┘"]


def picture():
    lines = [BEGIN, "```text"]
    for crates in PANELS:
        panels = [panel(crate) for crate in crates]
        height = max(len(panel) for panel in panels)
        for at in range(height):
            lines.append("  ".join(panel[at] if at < len(panel) else " " * WIDTH for panel in panels).rstrip())
    return "\n".join(lines + ["```", END])


def architecture():
    """Returns the text of the page, and the text with a new picture."""
    with open(ARCHITECTURE, encoding="utf-8") as page:
        text = page.read()
    before, found, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (found and end):
        raise SystemExit(f"check-modules: {ARCHITECTURE} lacks the markers {BEGIN} and {END}")
    return text, before + picture() + after


# --- The self-test: a crate as `{file: source}`, and the cycles expected in it.

CASES = {
    "imports that go one way": ({"lib.rs": "mod a; mod b;", "a.rs": "use crate::b::B;", "b.rs": "pub struct B;"}, []),
    "two files": ({"lib.rs": "mod a; mod b;", "a.rs": "use crate::b;", "b.rs": "use super::a;"}, ["a b"]),
    "three files": (
        {"lib.rs": "mod a; mod b; mod c;", "a.rs": "use crate::b;", "b.rs": "use crate::c;", "c.rs": "use crate::a;"},
        ["a b c"],
    ),
    "a use tree with braces and names": (
        {"lib.rs": "mod a; mod b; mod c;", "a.rs": "use crate::{c, b::{self as x, Y as _}};", "b.rs": "use crate::a::A;"} | {"c.rs": ""},
        ["a b"],
    ),
    "paths in code": (
        {"lib.rs": "mod a; mod b;", "a.rs": "fn f() -> crate::b::B { super::b::f::<u8>() }", "b.rs": "type A = crate::a::A;"},
        ["a b"],
    ),
    "a parent and its child": (
        {"lib.rs": "mod a;", "a.rs": "mod b; pub struct A; fn f() { b::f() }", "a/b.rs": "use super::A;"},
        ["a a/b"],
    ),
    "a parent in mod.rs that re-exports its child": (
        {"lib.rs": "mod a;", "a/mod.rs": "mod b; pub use b::B; pub struct A;", "a/b.rs": "use super::A; pub struct B;"},
        ["a/b a/mod"],
    ),
    "a declaration is no import": ({"lib.rs": "mod a;", "a.rs": "mod b; pub struct A;", "a/b.rs": "use super::A;"}, []),
    "the root re-exports": (
        {"lib.rs": "mod a; mod b; pub use a::A; pub use b::B;", "a.rs": "use crate::B; pub struct A;", "b.rs": "pub struct B;"},
        [],
    ),
    "a re-export hides nothing": (
        {"lib.rs": "mod a; mod b; pub use a::A; pub use b::B;", "a.rs": "use crate::B; pub struct A;", "b.rs": "use crate::A; pub struct B;"},
        ["a b"],
    ),
    "what the root defines itself": ({"lib.rs": "mod a; pub use a::A; pub type E = ();", "a.rs": "use crate::E;"}, ["a lib"]),
    "a re-export of a re-export, in a folder": (
        {
            "lib.rs": "mod a; mod c; pub use a::*;",
            "a/mod.rs": "mod b; pub use self::b::{B as D};",
            "a/b.rs": "use crate::c::C; pub struct B;",
            "c.rs": "use crate::D; pub struct C;",
        },
        ["a/b c"],
    ),
    "a re-exported module": (
        {"lib.rs": "mod a; mod c; pub use a::b;", "a.rs": "pub mod b;", "a/b.rs": "use crate::c::C;", "c.rs": "use crate::b::B;"},
        ["a/b c"],
    ),
    "an import of a name from the parent": (
        {"lib.rs": "mod a; mod b;", "a.rs": "mod c; use crate::b::B;", "a/c.rs": "use super::B;", "b.rs": "use crate::a::c::C; pub struct B;"},
        ["a/c b"],
    ),
    "a glob": ({"lib.rs": "mod a; mod b;", "a.rs": "use crate::b::*;", "b.rs": "use crate::a::A; pub struct B;"}, ["a b"]),
    "a glob of re-exports": (
        {"lib.rs": "mod a; mod b; mod p;", "p.rs": "pub use crate::b::B;", "a.rs": "use crate::p::*;", "b.rs": "use crate::a::A; pub struct B;"},
        ["a b"],
    ),
    "inline modules": (
        {"lib.rs": "mod a; mod b;", "a.rs": "mod x { use super::super::b::B; }", "b.rs": "use crate::a::x::Y; pub struct B;"},
        ["a b"],
    ),
    "a file in another place": (
        {"lib.rs": "mod b; #[path = \"x/y.rs\"] #[allow(dead_code)] mod a;", "x/y.rs": "use crate::b::B;", "b.rs": "use crate::a::A;"},
        ["b x/y"],
    ),
    "a file for another configuration": (
        {
            "lib.rs": "mod b; #[cfg_attr(not(feature = \"x\"), path = \"no_a.rs\")] mod a;",
            "a.rs": "",
            "no_a.rs": "use crate::b::B;",
            "b.rs": "use crate::a::A;",
        },
        ["b no_a"],
    ),
    "a path in an attribute": (
        {"lib.rs": "mod a; mod b;", "a.rs": '#[serde(with = "crate::b::f")] struct A;', "b.rs": "use crate::a::A; mod f {}"},
        ["a b"],
    ),
    "a macro": (
        {"lib.rs": "#[macro_use] mod a; mod b;", "a.rs": "use crate::b::B; macro_rules! m { () => {} }", "b.rs": "m!(); pub struct B;"},
        ["a b"],
    ),
    "tests": (
        {
            "lib.rs": "mod a; mod b;",
            "a.rs": "#[cfg(test)] use crate::b::B; pub struct A; #[cfg(test)] mod tests { use crate::b; } #[cfg(test)] mod more;",
            "a/more.rs": "use crate::b;",
            "b.rs": "use crate::a::A; struct S { #[cfg(test)] x: crate::a::A, y: u8 } #[cfg(test)] #[allow(x)] fn f() { crate::a::f() }",
        },
        [],
    ),
    "after a test there is code again": (
        {"lib.rs": "mod a; mod b;", "a.rs": "#[cfg(test)] const X: u8 = { 1 }; use crate::b::B;", "b.rs": "use crate::a::A;"},
        ["a b"],
    ),
    "comments and strings": (
        {
            "lib.rs": "mod a; mod b;",
            "a.rs": "//! [`crate::b`]\n/* use crate::b; /* nested */ use crate::b; */ const X: &str = \"use crate::b;\";"
            " const Y: &str = r#\"\" crate::b::x\"#; const C: char = '\\''; const D: char = '\"'; fn f<'a>(_: &'a str) {}",
            "b.rs": "use crate::a::A;",
        },
        [],
    ),
    "another crate of the same name": ({"lib.rs": "mod a; mod log;", "a.rs": "use log::info;", "log.rs": "use crate::a::A; use log::x;"}, []),
    "a method named like a module": (
        {"lib.rs": "mod a; mod b;", "a.rs": "use crate::b; impl A { fn b() {} } fn f() { b::g() }", "b.rs": "use super::a::f;"},
        ["a b"],
    ),
}


# No files import each other, but two folders do.
FOLDERS = {
    "lib.rs": "mod a; mod b;",
    "a.rs": "mod x; mod y;",
    "a/x.rs": "use crate::b::y::Y;",
    "a/y.rs": "",
    "b.rs": "mod x; mod y;",
    "b/x.rs": "use crate::a::y::Y;",
    "b/y.rs": "",
}


def self_test():
    failed = 0
    for title, (files, expected) in [*CASES.items(), ("folders", (FOLDERS, ["a b"]))]:
        with tempfile.TemporaryDirectory() as folder:
            for name, source in files.items():
                os.makedirs(os.path.dirname(os.path.join(folder, name)), exist_ok=True)
                with open(os.path.join(folder, name), "w", encoding="utf-8") as file:
                    file.write(source)
            crate = Crate(os.path.join(folder, "lib.rs"))
            groups = cycles(crate.edges) if files is not FOLDERS else cycles(folders(crate))
            found = [" ".join(file.removeprefix(folder + os.sep).removesuffix(".rs") for file in group) for group in groups]
        if found != expected:
            print(f"check-modules: self-test: {title}: expected {expected}, found {found}", file=sys.stderr)
            failed += 1
    if failed:
        return 1
    print(f"The module check finds what it should in {len(CASES) + 1} small crates.")
    return 0


def main(arguments):
    if arguments == ["--self-test"]:
        return self_test()
    os.chdir(os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
    packages = [os.path.join("crates", name) for name in sorted(os.listdir("crates"))] + ["fuzz"]
    crates = [Crate(root) for package in packages for root in roots(package)]
    if arguments == ["--list"]:
        for crate in crates:
            for file, targets in crate.edges.items():
                for target, line in targets.items():
                    print(f"{file}:{line} imports {target}")
        return 0
    if arguments not in ([], ["--write"]):
        print(__doc__, file=sys.stderr)
        return 2
    if report(crates):
        return 1
    files = len({module.file for crate in crates for module in crate.modules})
    text, fresh = architecture()
    if arguments:
        with open(ARCHITECTURE, "w", encoding="utf-8") as page:
            page.write(fresh)
    elif text != fresh:
        print(f"check-modules: the picture in {ARCHITECTURE} is out of date; run {sys.argv[0]} --write", file=sys.stderr)
        return 1
    print(f"No two of {files} files import each other, and no two folders of a crate.")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
