"""State files that are damaged, forged, or of something else: a stream that goes on, or one clear sentence."""

import itertools
import json
import pickle
import struct
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from knot_core.config import StreamSettings
from knot_core.driving.prompts import PromptTimeline
from knot_core.errors import StateError
from knot_core.stream import TimedPrompts, open_stream, resume_stream
from knot_core.stream.state_file import FORMAT

from .fuzzing import check_sentence, clear_errors_only, damaged, fuzzed, json_values

SETTINGS = StreamSettings(steps=1, num_window_frames=2)
FADING = StreamSettings(steps=1, num_window_frames=2, num_sink_frames=2, rope_positions="window", sink_decay=0.9)


@pytest.fixture(scope="module", params=[0, 2], ids=["unbegun", "begun"])
def saved(request, model, anchor, waves, tmp_path_factory):
    """A state file of a stream before its first chunk, and between two."""
    path = tmp_path_factory.mktemp("states") / "whole.safetensors"
    timeline = PromptTimeline(times=(0, 1), prompts=("a", "b"))
    told = replace(anchor.conditioning, prompts=TimedPrompts(timeline=timeline, texts_BTD=(torch.ones(1, 2, 20),) * 2))
    settings, conditioning = (SETTINGS, None) if request.param == 0 else (FADING, told)
    stream = open_stream(model, anchor, settings, waves(), conditioning=conditioning)
    list(itertools.islice(stream, request.param))
    stream.save(path)
    return path


def go_on(model, path, waves):
    """What passes the check streams."""
    with clear_errors_only():
        (chunk,) = itertools.islice(resume_stream(model, path, waves()), 1)
        assert chunk.latents.isfinite().all()


@fuzzed(25)
@given(st.data())
def test_a_damaged_file(saved, model, waves, data):
    path = saved.with_name("damaged.safetensors")
    path.write_bytes(data.draw(damaged(saved.read_bytes())))
    go_on(model, path, waves)


def test_every_flipped_bit_of_a_tensor_is_noticed(saved, model, waves):
    whole = bytearray(saved.read_bytes())
    begin = 8 + int.from_bytes(whole[:8], "little")
    places = range(begin, len(whole), max(1, (len(whole) - begin) // 40))
    assert len(places) >= 40
    for place in places:
        flipped = bytes(whole[:place]) + bytes([whole[place] ^ 1]) + bytes(whole[place + 1 :])
        saved.with_name("flipped.safetensors").write_bytes(flipped)
        with pytest.raises(StateError, match="not those that were saved"):
            resume_stream(model, saved.with_name("flipped.safetensors"), waves())


@fuzzed(10)
@given(st.binary(max_size=60))
def test_any_bytes(saved, model, waves, content):
    path = saved.with_name("any.safetensors")
    path.write_bytes(content)
    with pytest.raises(StateError) as refused:
        resume_stream(model, path, waves())
    check_sentence(str(refused.value))


def read(path):
    with safe_open(path, framework="pt") as file:
        return json.loads(file.metadata()["header"]), load_file(path)


def write(path, header, tensors):
    """As a forger does, who leaves out what would betray him."""
    if isinstance(header, dict):
        header = {name: value for name, value in header.items() if name != "sha256"}
    text = header if isinstance(header, str) else json.dumps(header)
    save_file(tensors, path, metadata={"format": FORMAT, "header": text})


ANY = json_values("chunk", "start", "anchor_position", "capacity", "num_sinks", "num_committed", "times", "prompts")
NUMBERS = st.sampled_from([-1, 0, 1, 2, 3, 6, 2**31, 2**62, 2**63, 10**400, 1.5, float("nan"), True, None, "3", []])


@fuzzed(50)
@given(st.data())
def test_a_header_with_one_other_value(saved, model, waves, data):
    header, tensors = read(saved)
    place = data.draw(st.sampled_from(["clock", "window", "settings", *header]))
    if isinstance(header[place], dict):
        inner = data.draw(st.sampled_from(sorted(header[place])))
        header[place] = header[place] | {inner: data.draw(NUMBERS | ANY)}
    else:
        header[place] = data.draw(NUMBERS | ANY)
    path = saved.with_name("header.safetensors")
    write(path, header, tensors)
    go_on(model, path, waves)


@fuzzed(10)
@given(ANY | st.text(max_size=30).map(lambda text: "[" + text) | st.just("[" * 100_000) | st.just("9" * 9999))
def test_a_header_of_any_json(saved, model, waves, header):
    path = saved.with_name("json.safetensors")
    write(path, header, read(saved)[1])
    go_on(model, path, waves)


SHAPES = st.lists(st.sampled_from([0, 1, 2, 3, 6, 12, 24]), max_size=4)
DTYPES = st.sampled_from([torch.float32, torch.float64, torch.bfloat16, torch.uint8, torch.int64, torch.bool])
MORE = st.sampled_from(
    ["window.9", "decoder.99", "knot", "sinks.0", "anchor.text", "conditioning.image", "conditioning.prompts.2", "x"]
)
VALUES = st.sampled_from([float("nan"), float("inf"), -float("inf"), 100.0, 0.0])


@fuzzed(60)
@given(st.data())
def test_one_other_tensor(saved, model, waves, data):
    header, tensors = read(saved)
    name = data.draw(st.sampled_from(sorted({name.rsplit(".", 1)[0]: name for name in tensors}.values())))
    change = data.draw(st.sampled_from(["shape", "dtype", "value", "missing", "more", "swapped"]))
    tensor = tensors[name]
    if change == "shape":
        tensors[name] = torch.zeros(data.draw(SHAPES), dtype=tensor.dtype)
    elif change == "dtype":
        tensors[name] = tensor.to(data.draw(DTYPES))
    elif change == "value":
        tensors[name] = tensor.clone()
        tensors[name].view(-1)[:1] = 255 if name == "rng" else data.draw(VALUES)
    elif change == "missing":
        del tensors[name]
    elif change == "more":
        tensors[data.draw(MORE)] = tensor.clone()
    else:
        tensors[name] = tensors[data.draw(st.sampled_from(sorted(tensors)))].clone()
    path = saved.with_name("tensor.safetensors")
    write(path, header, tensors)
    go_on(model, path, waves)


class Evil:
    """What a pickle can do: call anything."""

    def __reduce__(self):
        return pytest.fail, ("the file's code ran",)


def test_other_files_under_the_name_of_a_state(saved, model, waves, tmp_path):
    """A pickle is not opened, a declared size is not believed, another model's state is not taken."""
    path = tmp_path / "x.state.safetensors"
    header = b'{"window.0":{"dtype":"F32","shape":[1000000000,1000000],"data_offsets":[0,4000000000000000]}}'
    contents = [
        pickle.dumps({"state": Evil()}),
        struct.pack("<Q", 2**63) + b"{}",
        struct.pack("<Q", len(header)) + header + b"1234",
        saved.read_bytes()[:-1],
        b"",
    ]
    torch.save({"window": torch.zeros(3)}, path)
    for content in (path.read_bytes(), *contents):
        path.write_bytes(content)
        with pytest.raises(StateError) as refused:
            resume_stream(model, path, waves())
        check_sentence(str(refused.value))


def test_a_cache_that_no_machine_holds_is_refused(saved, model, waves, tmp_path):
    header, tensors = read(saved)
    if header["clock"]["chunk"]:
        pytest.skip("its window is as long as its settings say")
    header["settings"]["num_window_frames"] = header["window"]["capacity"] = 10**9
    write(tmp_path / "x", header, tensors)
    go_on(model, tmp_path / "x", waves)


def test_a_state_from_far_in_time_goes_on(saved, model, waves, tmp_path):
    """Nothing counts up to it."""
    header, tensors = read(saved)
    far = 10**12
    header["clock"] |= {"start": header["clock"]["start"] + far}
    header["driving_origin"] += far
    write(tmp_path / "x", header, tensors)
    (chunk,) = itertools.islice(resume_stream(model, tmp_path / "x", waves()), 1)
    assert chunk.latents.isfinite().all()
