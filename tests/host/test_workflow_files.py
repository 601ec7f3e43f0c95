"""The UI workflows against a running ComfyUI's nodes, and against their API form."""

from pathlib import Path
from typing import Any

import pytest

from .conftest import API_WORKFLOWS, STORED, STORED_API_WORKFLOWS, STORED_UI_WORKFLOWS, UI_WORKFLOWS, load_json
from .test_nodes import widgets

pytestmark = pytest.mark.host

WIDGET_TYPES = ("INT", "FLOAT", "STRING", "BOOLEAN", "COMBO", "COMFY_DYNAMICCOMBO_V3")
EDITOR_ONLY = ("Note", "MarkdownNote")  # they exist in the editor alone
Json = dict[str, Any]


def widget_names(info: Json) -> list[str | None]:
    """One name per stored widget value; None for the 'control after generate' that the editor puts behind a seed."""
    names: list[str | None] = []
    for name, spec in widgets(info).items():
        if len(spec) > 1 and spec[1].get("forceInput"):
            continue  # a cable, whatever its type
        if isinstance(spec[0], list) or spec[0] in WIDGET_TYPES:
            names.append(name)
            if name == "seed" or (len(spec) > 1 and spec[1].get("control_after_generate")):
                names.append(None)
    return names


def as_api(workflow: Json, object_info: Json) -> Json:
    """What the editor would queue."""
    sources = {link[0]: [str(link[1]), link[2]] for link in workflow["links"]}
    nodes = [node for node in workflow["nodes"] if node["type"] not in EDITOR_ONLY]
    return {str(node["id"]): _node_as_api(node, object_info[node["type"]], sources) for node in nodes}


def _node_as_api(node: Json, info: Json, sources: Json) -> Json:
    names, values = widget_names(info), node.get("widgets_values", [])
    # nodes gain widgets from version to version; those of ours that a file does not know yet have a default
    assert len(values) <= len(names), f"{node['type']} stores {len(values)} widget values for {names}"
    if node["type"].startswith("KnotForcing"):
        later = [name for name in names[len(values) :] if name]
        assert set(later) <= set(info["input"].get("optional", {})), f"{node['type']} stores no values of {later}"
    inputs = {name: value for name, value in zip(names, values, strict=False) if name}
    cables = {slot["name"]: sources[slot["link"]] for slot in node["inputs"] if slot.get("link") is not None}
    return {"class_type": node["type"], "inputs": inputs | cables}


def version_and_name(path: Path) -> str:
    """The version and the name of an old version's file; of today's, the name."""
    return path.stem if path in {*UI_WORKFLOWS, *API_WORKFLOWS} else f"{path.relative_to(STORED).parts[0]} {path.stem}"


@pytest.mark.parametrize("path", [*UI_WORKFLOWS, *STORED_UI_WORKFLOWS], ids=version_and_name)
def test_ui_form_is_the_api_form(path: Path, object_info: Json) -> None:
    api = load_json(path.parent / "api" / path.name)
    stripped = {key: {"class_type": node["class_type"], "inputs": node["inputs"]} for key, node in api.items()}
    assert as_api(load_json(path), object_info) == stripped


@pytest.mark.parametrize("path", [*API_WORKFLOWS, *STORED_API_WORKFLOWS], ids=version_and_name)
def test_every_input_exists_and_every_required_one_is_given(path: Path, object_info: Json) -> None:
    workflow = load_json(path)
    assert workflow
    for node in workflow.values():
        info = object_info[node["class_type"]]
        assert set(node["inputs"]) <= set(widgets(info))
        assert set(info["input"]["required"]) <= set(node["inputs"])
