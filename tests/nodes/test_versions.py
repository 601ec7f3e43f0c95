"""Differences between ComfyUI's versions, each with nothing faked but the difference."""

import dataclasses
import importlib.util
from pathlib import Path
from types import SimpleNamespace

import pytest

ADAPTERS = Path(__file__).resolve().parents[2] / "nodes" / "adapters"
SPEC = importlib.util.spec_from_file_location("knot_forcing_versions", ADAPTERS / "versions.py")
versions = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(versions)


@dataclasses.dataclass
class Schema:
    """As of 0.8.0."""

    node_id: str
    description: str = ""


@dataclasses.dataclass
class LaterSchema(Schema):
    """As since 0.11."""

    search_aliases: list[str] = dataclasses.field(default_factory=list)


class Input:
    def __init__(self, id: str, optional: bool = False) -> None:  # noqa: A002 - ComfyUI's name
        self.id, self.optional = id, optional


class LaterInput(Input):
    def __init__(self, id: str, optional: bool = False, advanced: bool | None = None) -> None:  # noqa: A002
        super().__init__(id, optional)
        self.advanced = advanced


SAID = {"node_id": "KnotForcingNode", "description": "A node.", "search_aliases": ["lip sync"]}


def test_a_schema_gets_its_search_aliases_where_it_has_them():
    assert LaterSchema(**versions.known_to(LaterSchema, SAID)).search_aliases == ["lip sync"]
    assert Schema(**versions.known_to(Schema, SAID)) == Schema("KnotForcingNode", "A node.")


def test_an_input_is_advanced_where_there_is_such_a_thing():
    said = {"optional": True, "advanced": True}
    assert LaterInput("dtype", **versions.known_to(LaterInput, said)).advanced
    assert Input("dtype", **versions.known_to(Input, said)).optional


@pytest.mark.parametrize("kind", [Schema, LaterSchema])
def test_a_misspelt_word_is_an_error_in_every_version(kind):
    with pytest.raises(TypeError, match="descripton"):
        kind(**versions.known_to(kind, {"node_id": "KnotForcingNode", "descripton": "A node."}))


def test_weights_are_managed_as_the_version_does_by_default():
    class Patcher:
        pass

    class DynamicPatcher:
        pass

    assert versions.patcher_class(SimpleNamespace(ModelPatcher=Patcher)) is Patcher
    later = SimpleNamespace(ModelPatcher=Patcher, CoreModelPatcher=DynamicPatcher)
    assert versions.patcher_class(later) is DynamicPatcher


@pytest.mark.parametrize(
    ("model", "file"),
    [
        (SimpleNamespace(), None),
        (SimpleNamespace(cached_patcher_init=None), None),
        (SimpleNamespace(cached_patcher_init=(print, ("a.safetensors", {}))), "a.safetensors"),
        (SimpleNamespace(cached_patcher_init=(print, ("a.safetensors", {}), 0)), "a.safetensors"),
        (SimpleNamespace(cached_patcher_init=(print, ({},))), None),
    ],
)
def test_a_models_file_is_known_where_comfyui_remembers_it(model, file):
    assert versions.source_file(model) == file


def test_every_schema_goes_through_the_one_place():
    """Else a word of a later version would keep an older one from loading the pack."""
    made = {path.name for path in ADAPTERS.parent.glob("*.py") if "io.Schema(" in path.read_text(encoding="utf-8")}
    assert made == {"types.py"}


def test_no_other_adapter_asks_what_this_comfyui_has():
    """ComfyUI's modules are meant; what a user connects may lack things in any version."""
    asks = {path.name: path.read_text(encoding="utf-8") for path in ADAPTERS.glob("*.py") if path.name != "versions.py"}
    asked = [name for name, text in asks.items() if "comfy" in text for part in ("hasattr(comfy", "getattr(comfy",
             "hasattr(host", "getattr(host", "hasattr(folder_paths", "getattr(folder_paths", "__version__",
             "comfyui_version", "inspect.signature") if part in text]  # fmt: skip
    assert asked == []


def test_a_video_that_was_cut_is_read_where_it_was_cut():
    cut, begun = (SimpleNamespace(get_active_trim_window=lambda it=it: it) for it in ((2.5, 4.0), (1.0, 0.0)))
    assert versions.trim_window(cut) == (2.5, 4.0)
    assert versions.trim_window(begun) == (1.0, float("inf")), "no length is all of it"
    assert versions.trim_window(object()) == (0.0, float("inf")), "0.8.0 cannot cut"
