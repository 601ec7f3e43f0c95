"""What a running ComfyUI says about the pack."""

import re
from typing import Any

import pytest

from ..nodes.interface import HOW_TO, interface, losses, recorded
from ..nodes.node_sources import Sources
from .comfyui import PACK, Server
from .conftest import load_json

pytestmark = pytest.mark.host

SOURCES = Sources()
NODE_IDS = sorted(SOURCES.interface())
UNIT = re.compile(r"pixel|frame|second|chunk|\bdB\b|how much|share|width|step|\bno unit|number", re.IGNORECASE)


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
    assert widgets(info)
    assert info["output_tooltips"]
    assert all(spec[1].get("tooltip") for spec in widgets(info).values())
    assert all(info["output_tooltips"])


@pytest.mark.parametrize("node_id", NODE_IDS)
def test_every_number_says_its_unit_and_its_range(object_info: dict[str, Any], node_id: str) -> None:
    numbers = {name: spec[1] for name, spec in widgets(object_info[node_id]).items() if spec[0] in ("INT", "FLOAT")}
    recorded_inputs = SOURCES.interface()[node_id]
    slots = [*recorded_inputs["required"], *recorded_inputs["optional"]]
    assert numbers.keys() == {name for name, kind in slots if kind in {"INT", "FLOAT"}}
    for name, said in numbers.items():
        assert UNIT.search(said["tooltip"]), f"{name}: of what?"
        named = {float(number) for number in re.findall(r"-?\d+(?:\.\d+)?", said["tooltip"])}
        ends = {said["min"]} if name == "seed" else {said["min"], said["max"]}  # 2**64 - 1 tells nobody anything
        assert ends <= named, f"{name}: from where to where?"


def test_the_interface_is_the_recorded_one(object_info: dict[str, Any]) -> None:
    assert losses(recorded(), interface(object_info)) == [], HOW_TO
    assert interface(object_info) == recorded(), HOW_TO


def test_other_names_and_advanced_inputs_arrive_where_the_version_has_them(
    server: Server, object_info: dict[str, Any]
) -> None:
    """What this ComfyUI has is read from its source; the nodes are all there in any case."""
    host = (server.host / "comfy_api/latest/_io.py").read_text(encoding="utf-8")
    assert NODE_IDS
    has_aliases, has_advanced = "search_aliases:" in host, "advanced: bool" in host
    for node_id in NODE_IDS:
        info = object_info[node_id]
        assert info.get("search_aliases") == (SOURCES.aliases()[node_id] if has_aliases else None)
        advanced = {name for name, spec in widgets(info).items() if spec[1].get("advanced")}
        assert advanced == (SOURCES.advanced()[node_id] if has_advanced else set())


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


def test_every_translation_and_picture_is_served(server: Server) -> None:
    said = server.get("/i18n")
    tables = list((PACK / "locales").glob("*/*.json"))
    assert tables
    for path in tables:
        texts = load_json(path) if path.stem == "main" else {path.stem: load_json(path)}
        for part, wanted in texts.items():
            assert wanted.items() <= said[path.parent.name][part].items()
    pictures = list((PACK / "web/docs/images").iterdir())
    assert pictures
    for path in pictures:
        assert server.data(f"/extensions/knot-forcing/docs/images/{path.name}") == path.read_bytes()


def test_templates_are_listed(server: Server) -> None:
    ours = server.get("/workflow_templates")["knot-forcing"]
    assert sorted(ours) == sorted(path.stem for path in (PACK / "workflows").glob("*.json"))
