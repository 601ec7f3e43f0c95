"""Write locales/en/nodeDefs.json from a running ComfyUI: python -m tests.host.write_locale http://127.0.0.1:8188"""

import json
import sys
import urllib.request
from pathlib import Path
from typing import Any

TARGET = Path(__file__).resolve().parents[2] / "locales" / "en" / "nodeDefs.json"


def node_definitions(object_info: dict[str, Any]) -> dict[str, Any]:
    """The texts of the pack's nodes in the shape of nodeDefs.json: inputs by name, outputs by index."""
    ours = {name: info for name, info in sorted(object_info.items()) if name.startswith("KnotForcing")}
    return {name: _definition(info) for name, info in ours.items()}


def _definition(info: dict[str, Any]) -> dict[str, Any]:
    inputs = {
        name: {"name": name, "tooltip": spec[1]["tooltip"]}
        for part in ("required", "optional")
        for name, spec in info["input"].get(part, {}).items()
    }
    outputs = {
        str(index): {"name": name, "tooltip": tooltip}
        for index, (name, tooltip) in enumerate(zip(info["output_name"], info["output_tooltips"], strict=True))
    }
    texts = {name: info[name] for name in ("display_name", "description")}
    return {**texts, "inputs": inputs, "outputs": outputs}


def main(address: str) -> None:
    with urllib.request.urlopen(f"{address}/object_info", timeout=60) as answer:
        definitions = node_definitions(json.load(answer))
    TARGET.write_text(json.dumps(definitions, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1])
