"""Record the nodes' interface from a running ComfyUI: python -m tests.host.write_interface http://127.0.0.1:8188"""

import json
import sys
import urllib.request

from ..nodes.interface import HOW_TO, RECORD, Interface, interface, losses, recorded


def main(address: str) -> None:
    with urllib.request.urlopen(f"{address}/object_info", timeout=60) as answer:
        found = interface(json.load(answer))
    lost = losses(recorded(), found) if RECORD.exists() else []
    if lost:
        sys.exit("\n".join([HOW_TO, *lost]))
    RECORD.write_text(as_text(found), encoding="utf-8")


def as_text(found: Interface) -> str:
    """JSON, one list a line, so that a change is one line of a diff."""
    nodes = (
        f'  "{name}": {{\n' + ",\n".join(f"    {json.dumps(part)}: {json.dumps(what)}" for part, what in node.items())
        for name, node in found.items()
    )
    return "{\n" + "\n  },\n".join(nodes) + "\n  }\n}\n"


if __name__ == "__main__":
    main(sys.argv[1])
