import json

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from knot_core.config import StreamSettings
from knot_core.driving import Driving
from knot_core.errors import StateError
from knot_core.model_loading import load_model
from knot_core.stream import open_stream, resume_stream, state_file, state_of

from .compared_chunks import same, take

SETTINGS = StreamSettings(steps=2, num_window_frames=4)


@pytest.fixture
def saved(model, anchor, waves, tmp_path):
    stream = open_stream(model, anchor, SETTINGS, waves())
    take(stream, 2)
    stream.save(tmp_path / "stream.safetensors")
    return tmp_path / "stream.safetensors"


def rewrite(path, **header):
    """The same tensors under a changed header."""
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata()
    metadata["header"] = json.dumps({**json.loads(metadata["header"]), **header})
    save_file(load_file(path), path, metadata=metadata)


@pytest.mark.parametrize("num_before", range(6))
@pytest.mark.parametrize(
    "settings",
    [
        SETTINGS,
        StreamSettings(steps=2, num_knot_frames=2, num_window_frames=7, start_from_reference=True),
        StreamSettings(steps=1, num_knot_frames=0, num_window_frames=0, use_anchor=False),
        StreamSettings(steps=1, num_window_frames=2, num_sink_frames=4),
        StreamSettings(steps=1, num_window_frames=4, num_sink_frames=3, rope_positions="window"),
        StreamSettings(steps=1, num_window_frames=4, num_sink_frames=4, rope_positions="window", sink_decay=0.9),
    ],
    ids=["default", "long knot", "all off", "sinks", "sinks that follow", "sinks that fade"],
)
def test_resuming_continues_bit_for_bit_at_any_chunk(model, anchor, waves, tmp_path, settings, num_before):
    whole = take(open_stream(model, anchor, settings, waves(), seed=5), 8)
    stream = open_stream(model, anchor, settings, waves(), seed=5)
    before = take(stream, num_before)
    stream.save(tmp_path / "s")
    resumed = resume_stream(model, tmp_path / "s", waves())
    assert resumed.settings == settings
    assert resumed.anchor == anchor
    assert same([*before, *take(resumed, 8 - num_before)], whole)
    assert same(take(stream, 8 - num_before), whole[num_before:]), "saving must not disturb the stream"


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("layout", ["inpaint36", "ref33", "t2v16"])
def test_so_does_every_layout_and_dtype_and_a_prompt(make_model, waves, tmp_path, layout, dtype):
    model = make_model(layout, dtype=dtype)
    anchor = model.anchor(text=torch.randn(1, 3, model.config.text_dim, generator=torch.Generator().manual_seed(1)))
    whole = take(open_stream(model, anchor, SETTINGS, waves()), 5)
    stream = open_stream(model, anchor, SETTINGS, waves())
    take(stream, 3)
    stream.save(tmp_path / "s")
    assert same(take(resume_stream(model, tmp_path / "s", waves()), 2), whole[3:])


def test_sinks_survive_a_fork_and_a_dtype_coarser_than_they_are(make_model, waves, tmp_path):
    model = make_model(dtype=torch.bfloat16)
    settings = StreamSettings(steps=1, num_window_frames=3, num_sink_frames=3, rope_positions="window", sink_decay=0.99)
    stream = open_stream(model, model.anchor(), settings, waves())
    take(stream, 5)
    stream.save(tmp_path / "s")
    twin, resumed = stream.fork(), resume_stream(model, tmp_path / "s", waves())
    mine, forked, saved = (take(one, 3) for one in (stream, twin, resumed))
    assert same(mine, forked)
    assert same(mine, saved)


def test_a_state_from_before_there_were_sinks_is_resumed(model, anchor, waves, saved):
    whole = take(open_stream(model, anchor, SETTINGS, waves()), 4)
    with safe_open(saved, framework="pt") as file:
        header = json.loads(file.metadata()["header"])
    old = {"num_chunk_frames", "num_knot_frames", "num_window_frames", "run_ahead_stride", "run_ahead_start", "steps",
           "shift", "fusion", "use_anchor", "start_from_reference"}  # fmt: skip
    window = {name: header["window"][name] for name in ("capacity", "num_committed")}
    rewrite(saved, settings={name: header["settings"][name] for name in old}, window=window)
    assert same(take(resume_stream(model, saved, waves()), 2), whole[2:])


def test_resuming_twice_gives_the_same_twice(model, waves, saved):
    assert same(*(take(resume_stream(model, saved, waves()), 3) for _ in range(2)))


def test_a_driving_that_began_later_goes_on_where_it_was(model, anchor, waves, tmp_path):
    stream = open_stream(model, anchor, SETTINGS, waves())
    take(stream, 2)
    stream.set_driving(waves(40, phase=1.0))
    take(stream, 1)
    stream.save(tmp_path / "s")
    assert same(list(resume_stream(model, tmp_path / "s", waves(40, phase=1.0))), list(stream))


def test_a_finished_stream_goes_on_with_a_longer_driving(model, anchor, waves, tmp_path):
    stream = open_stream(model, anchor, SETTINGS, waves(21))
    list(stream)
    stream.save(tmp_path / "s")
    assert list(resume_stream(model, tmp_path / "s", waves(21))) == []
    longer = list(open_stream(model, anchor, SETTINGS, waves(33)))
    assert same(list(resume_stream(model, tmp_path / "s", waves(33))), longer[2:])


def test_a_state_of_another_model_is_refused(make_model, waves, saved):
    with pytest.raises(StateError, match="another model"):
        resume_stream(make_model(seed=1), saved, waves())


def test_a_state_of_another_dtype_is_refused(make_model, waves, saved):
    with pytest.raises(StateError, match="saved in float32, the model runs in bfloat16"):
        resume_stream(make_model(dtype=torch.bfloat16), saved, waves())


def test_a_state_of_another_version_is_refused(model, waves, saved):
    rewrite(saved, version=99)
    with pytest.raises(StateError, match="state version 99"):
        resume_stream(model, saved, waves())


@pytest.mark.parametrize("header", [{"clock": {"chunk": 1}}, {"window": None}, {"settings": {"colour": 1}}], ids=str)
def test_a_damaged_header_is_refused(model, waves, saved, header):
    rewrite(saved, **header)
    with pytest.raises(ValueError, match=r"damaged|unknown fields"):
        resume_stream(model, saved, waves())


def test_files_that_are_no_state_are_refused(model, waves, saved, tmp_path):
    whole = saved.read_bytes()
    (tmp_path / "truncated").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "text").write_text("once upon a time")
    save_file({"x": torch.zeros(1)}, tmp_path / "weights")
    for name in ("truncated", "text", "weights", "missing"):
        with pytest.raises(StateError, match=name):
            resume_stream(model, tmp_path / name, waves())


def test_a_state_goes_into_a_new_folder_or_is_refused_in_one_sentence(model, anchor, waves, tmp_path):
    stream = open_stream(model, anchor, SETTINGS, waves())
    stream.save(tmp_path / "new" / "folder" / "s.state")
    assert resume_stream(model, tmp_path / "new" / "folder" / "s.state", waves()).plan.chunk == 0
    (tmp_path / "file").write_text("no folder")
    for place in (tmp_path / "file" / "s.state", tmp_path):
        with pytest.raises(StateError, match="cannot write the state file"):
            stream.save(place)


def test_a_full_disc_keeps_the_old_file(model, anchor, waves, saved, monkeypatch):
    before = saved.read_bytes()

    def full(_tensors, path, **_):
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(state_file, "save_file", full)
    with pytest.raises(StateError, match="No space left"):
        open_stream(model, anchor, SETTINGS, waves()).save(saved)
    assert saved.read_bytes() == before
    assert [path.name for path in saved.parent.iterdir()] == [saved.name]


def test_values_are_shown_in_one_short_line(model, anchor, waves):
    stream = open_stream(model, anchor, StreamSettings(), waves(30))
    saved, chunk, controls = state_of(stream), next(iter(stream)), Driving.from_controls({"yaw": [0.0] * 9})
    for value in (anchor, saved, saved.state, chunk, load_model("knot-tiny"), Driving.none(), Driving.idle(), controls,
                  controls.pose, Driving.idle().pose):  # fmt: skip
        assert len(repr(value)) <= 160, repr(value)
        assert "tensor(" not in repr(value)
        assert "array(" not in repr(value)
        assert "\n" not in repr(value)
    assert "before chunk 0" in repr(saved)
    assert "9 pixel frames" in repr(controls)
