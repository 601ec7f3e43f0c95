"""Processes that load one weights file share its memory: each of its own holds none of the weights."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from knot_core.model_loading import ASSETS, load_model
from knot_core.shared_weights import share_weights
from knot_core.stream import fingerprint

LOAD = """
import sys, torch
from knot_core.model_loading import load_model
from knot_core.run.process_memory import private_bytes
from knot_core.shared_weights import SharedWeights
from knot_core.stream.grouping import some_anchor

def mapped(name):
    lines, found, here = open("/proc/self/smaps").read().splitlines(), {}, False
    for line in lines:
        words = line.split()
        if not words[0].endswith(":"):
            here = line.endswith(name)
        elif here and words[-1] == "kB":
            found[words[0]] = found.get(words[0], 0) + int(words[1])
    return found

def used(load):
    model = load()
    some_anchor(model, (2, 2))  # in a pass
    return model

path, codec, dtype, kind = sys.argv[1:]
used(lambda: load_model("knot-tiny", dtype=torch.float32))  # everything that a process does once
before = private_bytes()
model = used(SharedWeights(path=path, codec=codec, dtype=dtype, codec_kind=kind).load)
found = mapped(path.rsplit("/", 1)[1])
print(private_bytes() - before, found["Private_Dirty:"], found["Private_Clean:"], found["Rss:"])
"""


@pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="what processes share is read from /proc")
def test_a_second_process_holds_no_weights_of_its_own(tmp_path):
    """While this one holds them as well; bfloat16 as in the file, whose other tensors are in float32."""
    path, codec = tmp_path / "shared.safetensors", ASSETS / "knot-tiny-codec.safetensors"
    path.write_bytes((ASSETS / "knot-tiny.safetensors").read_bytes())
    model = load_model(path, dtype=torch.bfloat16, codec=codec, mapped=True)
    stored = load_file(path)
    assert all(torch.equal(weight, stored[name]) for name, weight in model.network.state_dict().items())
    _, dirty, clean, resident = in_another_process(path, codec, torch.bfloat16)
    assert resident > 20_000, "the file is mapped, and was read"
    assert dirty == 0
    assert clean == 0, "this process maps it as well"


def in_another_process(path, codec, dtype, kind="auto"):
    """Bytes that it holds for itself, and KiB of the file: dirty, clean, shared or not."""
    arguments = map(str, (path, codec, str(dtype).removeprefix("torch."), kind))
    said = subprocess.run([sys.executable, "-I", "-c", LOAD, *arguments], capture_output=True, text=True, check=True)
    return [int(word) for word in said.stdout.split()]


@pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="what processes share is read from /proc")
def test_weights_in_another_dtype_are_shared_through_a_copy(tmp_path):
    """In float32, as knot-tiny is computed where there is no bfloat16; autoencoder included."""
    model = load_model("knot-tiny", dtype=torch.float32)
    folder = tmp_path / "not" / "there yet"
    shared = share_weights(model, folder)
    assert share_weights(model, folder) == shared
    assert {file.name for file in folder.iterdir()} == {Path(shared.path).name, Path(shared.codec).name}
    mine = shared.load()
    assert fingerprint(mine) == fingerprint(model)
    assert not [name for name, tensor in mine.network.named_parameters() if tensor.data_ptr() % 64], "as torch's own"
    assert (mine.settings, mine.fps, mine.config, mine.dtype) == (model.settings, model.fps, model.config, model.dtype)
    own, dirty, clean, resident = in_another_process(shared.path, shared.codec, torch.float32, shared.codec_kind)
    assert resident > 40_000, "the file is mapped, and was read"
    assert dirty == clean == 0
    assert own < 10 * 2**20, "of 58 MiB of weights"


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="where a file is mapped is read from /proc")
def test_weights_stay_mapped_where_nothing_is_to_be_changed(tmp_path):
    """A weight in the file's dtype lies in the file's memory; one that is cast does not."""
    path = tmp_path / "w.safetensors"
    path.write_bytes((ASSETS / "knot-tiny.safetensors").read_bytes())
    codec, cast = ASSETS / "knot-tiny-codec.safetensors", "blocks.0.self_attn.q.weight"
    for dtype, is_mapped in ((torch.bfloat16, True), (torch.float32, False)):
        weights = load_model(path, dtype=dtype, codec=codec, mapped=True).network.state_dict()
        lines = [line.split() for line in Path("/proc/self/maps").read_text(encoding="utf-8").splitlines()]
        spans = [range(*(int(end, 16) for end in words[0].split("-"))) for words in lines if words[-1] == str(path)]
        mapped = {name for name, weight in weights.items() if any(weight.data_ptr() in span for span in spans)}
        assert "blocks.0.modulation" in mapped
        assert (cast in mapped) is is_mapped
        assert (mapped == weights.keys()) is is_mapped


def test_a_file_that_is_not_mapped_may_go(tmp_path):
    """Nothing is mapped unless it is asked for."""
    shared = share_weights(load_model("knot-tiny", dtype=torch.float32), tmp_path)
    model = load_model(shared.path, dtype=torch.float32, codec=shared.codec)
    before = fingerprint(model)
    for file in (shared.path, shared.codec):
        Path(file).write_bytes(bytes(Path(file).stat().st_size))
    assert fingerprint(model) == before
