"""Weights files known by their content, read from their header alone, and told by their structure."""

import json
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from knot_core.errors import CheckpointError
from knot_core.inspection import inspect_checkpoint
from knot_core.model_loading import ASSETS
from knot_core.wan.checkpoint import open_checkpoint
from knot_core.wan.reading import read_stored
from knot_core.wan.safetensors_file import read_header

TENSORS = {"blocks.0.weight": torch.arange(6.0).view(2, 3), "b": torch.ones(4, dtype=torch.float16)}
TINY = ASSETS / "knot-tiny.safetensors"


@pytest.mark.parametrize("header_only", [False, True])
@pytest.mark.parametrize("name", ["a.safetensors", "a.sft", "a.pt", "a.ckpt", "a", "a.bin"])
@pytest.mark.parametrize("save", [save_file, torch.save])
def test_what_a_file_is_stands_in_it_and_not_in_its_name(tmp_path, name, save, header_only):
    save(TENSORS, tmp_path / name)
    read = read_stored(tmp_path / name, header_only=header_only)
    assert {key: tensor.shape for key, tensor in read.tensors.items()} == {k: t.shape for k, t in TENSORS.items()}
    assert header_only or all(torch.equal(read.tensors[key], tensor) for key, tensor in TENSORS.items())


def test_parts_of_any_suffix_belong_together(tmp_path):
    for number, (key, tensor) in enumerate(TENSORS.items(), start=1):
        save_file({key: tensor}, tmp_path / f"w-{number:05d}-of-00002.sft")
    assert set(read_stored(tmp_path, header_only=True).tensors) == set(TENSORS)


def test_a_header_says_what_the_library_says(tmp_path):
    tensors = {name: torch.zeros(2, 3).to(dtype) for name, dtype in (
        ("a", torch.float8_e4m3fn), ("b", torch.bool), ("c", torch.int64), ("d", torch.bfloat16))}  # fmt: skip
    save_file(tensors | {"empty": torch.zeros(0, 5)}, tmp_path / "a.safetensors", metadata={"who": "me"})
    read, metadata = read_header(tmp_path / "a.safetensors")
    shapes = {name: tuple(tensor.shape) for name, tensor in read.items()}
    assert shapes == dict.fromkeys("abcd", (2, 3)) | {"empty": (0, 5)}
    assert metadata == {"who": "me"}
    assert (read["a"].dtype, read["d"].dtype) == (torch.float8_e4m3fn, torch.bfloat16)


def entry(shape: object = (2,), place: object = (0, 8), dtype: object = "F32") -> dict[str, object]:
    return {"dtype": dtype, "shape": shape, "data_offsets": place}


@pytest.mark.parametrize("header", [
    [], {"a": 1}, {"a": entry(dtype=4)}, {"a": entry(shape=[-2])}, {"a": entry(shape=[3])}, {"a": entry(place=[0, 80])},
    {"a": entry(place=[8, 0])}, {"a": entry(place=[4, 8])}, {"a": entry(place=[0])}, {"a": entry(shape="2")},
    {"a": entry(shape=[2**62, 2**62, 0], place=[0, 0])}, {"a": entry(), "b": entry()}, {"a": entry(shape=[True, 2])},
    {"__metadata__": {"a": 1}, "b": entry()}, {"a": entry(dtype="F99", place=[0, 4])},
])  # fmt: skip
@pytest.mark.parametrize("header_only", [False, True])
def test_a_damaged_header_gets_one_sentence(tmp_path, header, header_only):
    text = json.dumps(header).encode()
    (tmp_path / "a.safetensors").write_bytes(len(text).to_bytes(8, "little") + text + bytes(8))
    with pytest.raises(CheckpointError, match="truncated or damaged") as caught:
        read_stored(tmp_path / "a.safetensors", header_only=header_only)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"a", bytes(8), b"\xff" * 8 + b"{", (2).to_bytes(8, "little") + b"{"])
def test_less_than_a_header_gets_one_sentence(tmp_path, content):
    for name in ("a.safetensors", "a.sft"):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(CheckpointError, match="truncated or damaged"):
            read_stored(tmp_path / name, header_only=True)


@pytest.mark.skipif(sys.platform != "linux", reason="NOT LINUX: no limit on a process's memory, nothing is tested")
def test_a_file_larger_than_memory_is_inspected_and_not_loaded(tmp_path):
    """64 GiB that take no room on the disc, in a process that is given 8."""
    size, file = 64 * 2**30, tmp_path / "large.safetensors"
    header = json.dumps({"patch_embedding.weight": entry([size // 2], [0, size], "F16")}).encode()
    with file.open("wb") as out:
        out.write(len(header).to_bytes(8, "little") + header)
        out.truncate(out.tell() + size)
    code = f"""
        import resource
        from pathlib import Path
        from knot_core.errors import CheckpointError
        from knot_core.wan.reading import read_stored
        resource.setrlimit(resource.RLIMIT_AS, (8 * 2**30, 8 * 2**30))
        path = Path({str(file)!r})
        print(read_stored(path, header_only=True).tensors["patch_embedding.weight"].numel())
        try:
            read_stored(path, header_only=False)
        except CheckpointError as problem:
            print(problem)
    """
    ran = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    count, said = ran.stdout.strip().split("\n")
    assert int(count) == size // 2
    assert "takes 64.0 GiB of memory" in said
    assert str(file) in said


@pytest.mark.parametrize("family", [None, "knot-tiny"])
def test_what_the_structure_tells_needs_no_metadata(tmp_path, family):
    """A copy that another tool saved."""
    save_file(load_file(TINY), tmp_path / "copy.sft")
    copy = open_checkpoint(tmp_path / "copy.sft", header_only=True, family=family)
    assert copy.config == open_checkpoint(TINY, header_only=True).config


def test_the_adapter_of_a_large_network_feeds_the_blocks_behind_the_first_two(tmp_path):
    tensors = {name: tensor for name, tensor in load_file(TINY).items() if not name.startswith(
        ("audio_cond_projs.6", "audio_cond_projs.7"))}  # fmt: skip
    save_file(tensors, tmp_path / "fewer.safetensors")
    assert open_checkpoint(tmp_path / "fewer.safetensors", header_only=True).config.adapter.blocks == tuple(range(2, 8))


@pytest.mark.parametrize(("name", "kind"), [("knot-tiny-codec", "taehv"), ("knot-face-codec", "warping")])
def test_inspect_knows_every_kind_of_codec_by_its_structure(tmp_path, name, kind):
    save_file(load_file(ASSETS / f"{name}.safetensors"), tmp_path / "copy.sft")
    found = inspect_checkpoint(tmp_path / "copy.sft")
    assert (found["family"], found["problem"], found["missing"], found["unexpected"]) == (kind, None, [], [])


def test_a_codec_of_either_suffix_lies_beside_its_weights(tmp_path):
    from knot_core.model_loading import load_model

    for name in ("knot-tiny", "knot-tiny-codec"):
        Path(tmp_path / f"{name}.sft").write_bytes((ASSETS / f"{name}.safetensors").read_bytes())
    assert load_model(tmp_path / "knot-tiny.sft").codec is not None


@pytest.mark.parametrize("length", [0x280, 0x380, 0x480, 0x580])
def test_a_header_whose_length_reads_like_a_pickle_is_none(tmp_path, length):
    """Little-endian 0x280 is the first two bytes of a pickle of protocol 2."""
    path = tmp_path / "w.safetensors"
    name = "x"
    while path.exists() is False or int.from_bytes(path.read_bytes()[:8], "little") < length:
        save_file({name: torch.ones(2)}, path)
        name += "x"
    assert path.read_bytes()[:2] == length.to_bytes(2, "little")
    (found,) = read_stored(path, header_only=False).tensors.values()
    assert torch.equal(found, torch.ones(2))
