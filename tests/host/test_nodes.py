"""What a running ComfyUI says about the pack."""

import re
from typing import Any

import pytest

from .comfyui import PACK, Server
from .conftest import load_json

pytestmark = pytest.mark.host

NODE_IDS = re.findall(r'node_id="(\w+)"', "".join(p.read_text(encoding="utf-8") for p in (PACK / "nodes").glob("*.py")))


def widgets(info: dict[str, Any]) -> dict[str, list[Any]]:
    """Inputs of a node, in the order that the editor shows them."""
    parts = info["input"]
    return {name: spec for part in ("required", "optional") for name, spec in parts.get(part, {}).items()}


def test_pack_imports_without_complaint(server: Server) -> None:
    log = server.log.read_text(encoding="utf-8", errors="replace")
    assert "IMPORT FAILED" not in log, log
    assert "knot-forcing" in log


@pytest.mark.parametrize("node_id", NODE_IDS)
def test_node_is_offered(object_info: dict[str, Any], node_id: str) -> None:
    info = object_info[node_id]
    assert node_id.startswith("KnotForcing")
    assert info["category"].split("/")[0] == "Knot Forcing"
    assert info["description"]
    assert all(spec[1].get("tooltip") for spec in widgets(info).values())
    assert all(info["output_tooltips"])


def test_no_node_is_left_out(object_info: dict[str, Any]) -> None:
    assert {name for name in object_info if name.startswith("KnotForcing")} == set(NODE_IDS)


def test_locale_says_what_the_nodes_say(object_info: dict[str, Any]) -> None:
    """locales/en/nodeDefs.json is the template for translators; tests/host/write_locale.py writes it."""
    from .write_locale import node_definitions

    assert load_json(PACK / "locales/en/nodeDefs.json") == node_definitions(object_info)


def test_help_page_and_locale_are_served(server: Server) -> None:
    assert "KnotForcingStream" in server.get("/i18n")["en"]["nodeDefs"]
    page = server.text("/extensions/knot-forcing/docs/KnotForcingStream.md")
    assert page == (PACK / "web/docs/KnotForcingStream.md").read_text(encoding="utf-8")


def test_templates_are_listed(server: Server) -> None:
    ours = server.get("/workflow_templates")["knot-forcing"]
    assert sorted(ours) == sorted(path.stem for path in (PACK / "workflows").glob("*.json"))
