"""GGUF files, which ComfyUI does not list by itself, are offered by *Load Knot Forcing Model*."""

import pytest

from .comfyui import Server

pytestmark = pytest.mark.host
LOADER = "KnotForcingLoadModel"


def offered(server: Server) -> list[str]:
    """The names in the loader's list."""
    kind, *more = server.get(f"/object_info/{LOADER}")[LOADER]["input"]["required"]["model_name"]
    return more[0]["options"] if kind == "COMBO" else kind


def test_packed_files_are_listed_once_also_in_folders_and_no_others(server: Server) -> None:
    before = offered(server)
    folder = server.base / "models" / "diffusion_models"
    (folder / "wan" / "small").mkdir(parents=True, exist_ok=True)
    names = ["packed.gguf", "wan/small/packed.gguf"]
    try:
        for name in [*names, "notes.gguf.txt"]:
            (folder / name).write_bytes(b"GGUF")
        listed = offered(server)
        assert [name for name in listed if name not in before] == names
        assert len(set(listed)) == len(listed)
    finally:
        for name in [*names, "notes.gguf.txt"]:
            (folder / name).unlink(missing_ok=True)
    assert offered(server) == before
