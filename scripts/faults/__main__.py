"""Shows what clients see of every fault: python scripts/faults PROGRAM WORK_FOLDER [--write]. See scripts/faults.sh."""

import concurrent.futures
import pathlib
import sys

import backend
import clients

ROOT = pathlib.Path(__file__).parents[2]
DOCUMENT = ROOT / "docs/faults.md"
START, END = "<!-- clients -->\n", "<!-- end of clients -->\n"


def observe(program, work, script, protocol, client):
    """Returns what a client sees: of the first request, and of the second if it is not the usual response."""
    name, _, call = client
    seen = []
    for ca in [None, f"{work}/{abs(hash((script, protocol, name)))}.pem"]:
        if script.startswith("tls=") and not ca:
            continue
        with backend.serve(program, script, ca) as url:
            first, second = call(url, ca)
        seen.append(first if second == clients.described(200, 14) else f"{first}, then {second}")
    return seen[0] if len(set(seen)) == 1 else f"{seen[0]}; TLS: {seen[1]}"


def table(program, work, protocol, protocol_clients):
    rows = list(backend.scripts((ROOT / "crates/delayed-backend/src/fault/table.md").read_text()))
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        cells = {
            (script, client[0]): pool.submit(observe, program, work, script, protocol, client)
            for script in rows
            for client in protocol_clients
        }
        names = [name for name, _, _ in protocol_clients]
        lines = [f"| {protocol} | {' | '.join(names)} |", "|---" * (len(names) + 1) + "|"]
        for script in rows:
            lines.append(f"| `{script}` | {' | '.join(cells[script, name].result() for name in names)} |")
    return "".join(line + "\n" for line in lines)


def main(program, work, *flags):
    installed = clients.installed()
    tables = [table(program, work, *protocol) for protocol in installed.items()]
    versions = {f"{name.removesuffix('s fetch').removesuffix('s http2').strip(chr(39))} {version}"
                for protocol in installed.values() for name, version, _ in protocol}
    text = "\n".join(tables) + f"\nWith {', '.join(sorted(versions, key=str.lower))}.\n"
    if "--write" in flags:
        before, rest = DOCUMENT.read_text().split(START)
        _, after = rest.split(END)
        DOCUMENT.write_text(before + START + text + END + after)
    else:
        print(text, end="")


main(*sys.argv[1:])
