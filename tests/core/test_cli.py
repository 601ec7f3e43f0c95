"""The command line on a tiny model: what it writes, what it says, what it refuses."""

import dataclasses
import json
import logging
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from knot_core import cli
from knot_core.cli import preflight
from knot_core.cli.interrupt import INTERRUPTED
from knot_core.cli.options import SETTINGS_HELP
from knot_core.codec.taehv import TAEHV, CodecConfig
from knot_core.config import AdapterConfig, NetworkConfig, StreamSettings
from knot_core.errors import MediaError
from knot_core.media import Audio, VideoWriter, open_audio
from knot_core.media.frames import read_frames
from knot_core.run.process_memory import peak_rss_mib
from knot_core.wan.checkpoint import save_network
from knot_core.wan.families import PRESETS
from knot_core.wan.memory import MemoryNeed
from knot_core.wan.network import WanNetwork

FIGURES = {
    "fps", "realtime_factor", "first_chunk_s", "chunk_s_p50", "chunk_s_p95", "chunks", "pixel_frames", "peak_rss_mib",
    "memory_mib_first", "memory_mib_last", "threads", "device", "dtype",
}  # fmt: skip


@pytest.fixture(scope="module")
def files(tmp_path_factory, randomised) -> Path:
    """A folder with model.safetensors and its codec, face.png, speech.m4a, nod.json."""
    folder = tmp_path_factory.mktemp("cli")
    config = NetworkConfig(
        dim=128,
        ffn_dim=64,
        num_heads=1,
        num_layers=2,
        in_channels=36,
        layout="inpaint36",
        text_dim=24,
        freq_dim=16,
        adapter=AdapterConfig(hidden_dim=8, blocks=(0, 1)),
    )
    preset = dataclasses.replace(PRESETS["knot-tiny"], height=32, width=32)
    save_network(folder / "model.safetensors", randomised(WanNetwork(config), 1), preset)
    codec = randomised(TAEHV(CodecConfig(encoder=(4, 4, 4, 4), decoder=(8, 4, 4, 4))), 2)
    save_file(codec.state_dict(), folder / "model-codec.safetensors")
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (50, 40, 3), dtype=np.uint8)).save(folder / "face.png")
    speech = Audio(
        samples=torch.randn(1, 16_000 * 2, generator=torch.Generator().manual_seed(0)) * 0.1, sample_rate=16_000
    )
    with VideoWriter(folder / "speech.m4a", width=16, height=16, audio=speech) as writer:
        writer.write(torch.zeros(50, 16, 16, 3, dtype=torch.uint8))
    (folder / "nod.json").write_text(json.dumps({"fps": 25, "pitch": np.linspace(0, 1, 30).tolist()}))
    return folder


@pytest.fixture
def run(files, capsys):
    """`run("animate", ...)` in the files' folder, with the tiny model: (exit code, standard output, error stream)."""

    def call(*arguments: object) -> tuple[int, str, str]:
        extra = ("--model", files / "model.safetensors", "--dtype", "float32") if arguments[0] != "inspect" else ()
        code = cli.main([str(argument) for argument in (*arguments, *extra)])
        said = capsys.readouterr()
        return code, said.out, said.err

    before = Path.cwd()
    os.chdir(files)
    yield call
    os.chdir(before)


def frames_of(path: Path) -> np.ndarray:
    with av.open(str(path)) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


def test_speech_makes_a_video_with_sound_and_figures(run, tmp_path):
    out = tmp_path / "new folder" / "talk.mp4"
    code, said, _ = run(
        "animate",
        "--reference",
        "face.png",
        "--audio",
        "speech.m4a",
        "--out",
        out,
        "--sheet",
        tmp_path / "sheet.png",
        "--stats",
        tmp_path / "stats.json",
    )
    assert code == 0
    figures = json.loads(said.splitlines()[-1])
    assert set(figures) == FIGURES
    assert json.loads((tmp_path / "stats.json").read_text()) == figures
    pixel_frames = figures["pixel_frames"]
    assert pixel_frames == pytest.approx(50, abs=2)
    assert frames_of(out).shape == (pixel_frames, 32, 32, 3)
    assert open_audio(out).seconds == pytest.approx(pixel_frames / 25, abs=0.1)
    assert figures["chunks"] == 5
    assert figures["realtime_factor"] == pytest.approx(figures["fps"] / 25, rel=0.01)
    sheet = Image.open(tmp_path / "sheet.png")
    assert sheet.size == (6 * 36 + 4, 50 + 4), "the reference and four pictures, half a second apart"


@pytest.mark.parametrize("source", [
    ("--controls", "nod.json"), ("--idle",), ("--audio", "speech.m4a", "--controls", "nod.json"),
    ("--audio", "speech.m4a", "--idle")])  # fmt: skip
def test_everything_drives_for_as_long_as_asked(run, tmp_path, source):
    code, said, _ = run("animate", "--reference", "face.png", *source, "--seconds", 1, "--out", tmp_path / "v.mp4")
    assert code == 0
    assert json.loads(said)["pixel_frames"] == 25
    assert len(frames_of(tmp_path / "v.mp4")) == 25


def test_every_setting_is_an_option(run, tmp_path):
    assert set(SETTINGS_HELP) == {field.name for field in dataclasses.fields(StreamSettings)}
    code, said, _ = run("animate", "--reference", "face.png", "--idle", "--seconds", 1, "--out", tmp_path / "v.mp4",
                        "--num-chunk-frames", 2, "--num-knot-frames", 0, "--num-window-frames", 3, "--steps", 1,
                        "--run-ahead-stride", 0, "--run-ahead-start", 1, "--shift", 3, "--fusion", 0.1,
                        "--no-use-anchor", "--no-start-from-reference", "--size", "48x64", "--fit", "letterbox",
                        "--seed", 3, "--threads", torch.get_num_threads())  # fmt: skip
    assert code == 0
    assert json.loads(said)["chunks"] == 4
    assert frames_of(tmp_path / "v.mp4").shape == (25, 64, 48, 3)


def test_a_saved_stream_goes_on_where_it_stood(run, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    start = ("animate", "--audio", "speech.m4a", "--seed", 5)
    assert run(*start, "--reference", "face.png", "--out", tmp_path / "all.mp4")[0] == 0
    state = tmp_path / "state.safetensors"
    code, _, _ = run(
        *start, "--reference", "face.png", "--seconds", 0.5, "--out", tmp_path / "a.mp4", "--save-state", state
    )
    assert code == 0
    assert "ends at 0.84 s with a whole chunk" in caplog.text
    assert run(*start, "--resume", state, "--out", tmp_path / "b.mp4")[0] == 0
    whole, first, second = (frames_of(tmp_path / f"{name}.mp4") for name in ("all", "a", "b"))
    assert len(first) == 21
    assert len(first) + len(second) == len(whole)
    # H.264 starts afresh in the second file, so the pictures agree as well as it codes them
    assert np.abs(whole[21:].astype(int) - second).mean() < 6
    code, _, said = run(*start, "--resume", state, "--steps", 2, "--out", tmp_path / "c.mp4")
    assert code == 1
    assert "leave out steps" in said
    code, _, said = run("animate", "--controls", "nod.json", "--resume", tmp_path / "none", "--out", tmp_path / "c.mp4")
    assert code == 1
    assert "cannot read the state file" in said


def test_resuming_past_the_end_is_refused(run, tmp_path):
    state = tmp_path / "state.safetensors"
    run(
        "animate",
        "--idle",
        "--reference",
        "face.png",
        "--seconds",
        2,
        "--out",
        tmp_path / "a.mp4",
        "--save-state",
        state,
    )
    code, _, said = run("animate", "--controls", "nod.json", "--resume", state, "--out", tmp_path / "b.mp4")
    assert code == 1
    assert "ends at 1.20 s and the state stands at 2.28 s: give --seconds" in said


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ("--idle", "give --reference to begin a stream"),
        ("--reference face.png", "nothing drives the portrait"),
        ("--reference face.png --idle --controls nod.json", "both set the motion of the head"),
        ("--reference face.png --idle --seconds 0", "seconds is 0.0"),
        ("--reference face.png --idle --seconds nan", "seconds is nan"),
        ("--reference nowhere.png --idle", "nowhere.png cannot be read"),
        ("--reference nod.json --idle", "nod.json is no picture"),
        ("--reference face.png --audio face.png", "has no audio stream"),
        ("--reference face.png --audio nod.json", "nod.json cannot be read"),
        ("--reference face.png --controls face.png", "is no text in UTF-8"),
        ("--reference face.png --idle --num-window-frames -1", "num_window_frames is -1"),
        ("--reference face.png --idle --num-knot-frames 4", "longer than a chunk of 3"),
        ("--reference face.png --idle --size 50", "multiples of 16"),
        ("--reference face.png --idle --seed -1", "seed is -1"),
        ("--reference face.png --idle --threads 0", "threads is 0"),
        ("--reference face.png --idle --device gpu", "device 'gpu' is unknown to PyTorch; choose cpu"),
        ("--reference face.png --idle --device vulkan", "device 'vulkan' cannot be used here"),
        ("--reference face.png --idle --device meta", "device 'meta' cannot be used here: its tensors hold no values"),
        ("--reference face.png --idle --size 100000", "GiB in all; take a smaller size"),
        ("--reference face.png --idle --num-window-frames 1000000000", "GiB in all; take a smaller size"),
        ("--reference face.png --idle --seconds 1e300", "seconds is 1e+300"),
        ("--reference face.png --idle --threads 100000000", "threads is 100000000"),
        ("--reference face.png --idle --sheet sheet.gif", "sheet.gif has the suffix '.gif'"),
        ("--reference face.png --idle --preview preview", "preview preview has no suffix"),
        ("--reference face.png --audio speech.m4a --stats speech.m4a", "--stats speech.m4a would be written over"),
        ("--reference face.png --idle --sheet ./face.png", "--sheet face.png would be written over --reference"),
        ("--reference face.png --controls nod.json --save-state nod.json", "would be written over --controls"),
        ("--reference face.png --idle --stats .", "--stats . is a folder; name a file in it"),
        ("--reference face.png --idle --save-state .", "--save-state . is a folder"),
        ("--reference face.png --idle --sheet face.png/sheet.png", "would lie in face.png, which is no folder"),
        ("--reference face.png --idle --codec nod.json", "nod.json is no PyTorch file, or damaged"),
        ("--reference face.png --idle --points 1,2 3,4 nose", "give eyes and mouth in pixels, such as 97,112"),
        (
            "--reference face.png --idle --points 10,20 30,20 20,70",
            "20,70 lies outside of the picture of 40x50",
        ),
        ("--reference face.png --idle --points 10,20 30,20 20,35 --align off", "leave the points out, or set align"),
        ("--resume saved --idle --paste-back", "has its reference, but not the whole picture; leave out --paste-back"),
    ],
)
def test_mistakes_get_one_sentence_and_lose_nothing(run, tmp_path, options, says):
    (tmp_path / "v.mp4").write_text("an older video")
    code, out, said = run("animate", "--out", tmp_path / "v.mp4", *options.split())
    assert code == 1
    errors = [line for line in said.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert says in errors[0]
    assert "Traceback" not in said
    assert not out
    assert (tmp_path / "v.mp4").read_text() == "an older video"


def test_detail_is_refused_where_no_pixels_are_copied(run, tmp_path):
    code, _, said = run(*f"animate --reference face.png --idle --detail 2 --out {tmp_path}/v.mp4".split())
    assert code == 1
    assert "detail is 2, but this model draws every pixel itself" in said


IDLE = ("--reference", "face.png", "--idle", "--seconds", 0.4)


def test_the_whole_picture_is_written_with_the_animated_part_in_its_place(run, tmp_path, files, caplog):
    """Points near the lower right of a larger picture: what is far from them stays as it was."""
    picture = Image.new("RGB", (161, 120), (40, 90, 160))
    picture.paste(Image.open(files / "face.png"), (110, 60))
    picture.save(tmp_path / "photo.png")
    points = ("--points", "120,85", "140,85", "130,106")
    with caplog.at_level(logging.INFO):
        code, _, _ = run("animate", "--reference", tmp_path / "photo.png", "--idle", "--seconds", 0.2, *points,
                         "--paste-back", "--out", tmp_path / "v.mp4")  # fmt: skip
    assert code == 0
    assert "the face aligned by your three points: 20 pixels between the eyes" in caplog.text
    frames = frames_of(tmp_path / "v.mp4")
    assert frames.shape[1:] == (120, 160, 3)  # of 161 columns the last one is left out
    assert np.abs(frames[:, :, :60].astype(int) - (40, 90, 160)).max() < 12
    before = np.asarray(picture)[70:110, 115:145].astype(int)
    assert np.abs(frames[:, 70:110, 115:145] - before).mean() > 40  # the tiny model's weights are random


@pytest.mark.parametrize(
    ("name", "container", "codec"), [("v.webm", "webm", "vp9"), ("v.MOV", "mov", "prores"), ("v.mp4", "mp4", "h264")]
)
def test_the_suffix_decides_the_format(run, tmp_path, name, container, codec):
    for command in (("animate", *IDLE), ("bench", "--chunks", 1)):
        assert run(*command, "--out", tmp_path / name)[0] == 0
        with av.open(str(tmp_path / name)) as found:
            assert container in found.format.name
            assert found.streams.video[0].codec_context.name == codec


@pytest.mark.parametrize("name", ["v.gif", "v.png", "v.wav", "v.mkv", "v"])
def test_a_format_that_there_is_not_is_refused_by_name_and_format_overrides(run, tmp_path, name):
    path = tmp_path / name
    for command in (("animate", *IDLE), ("bench", "--chunks", 1)):
        code, _, said = run(*command, "--out", path)
        assert code == 1
        assert f"the video {path} has " in said
        assert (path.suffix or "no suffix") in said
        assert not path.exists()
    assert run("animate", *IDLE, "--out", path, "--format", "vp9-webm")[0] == 0
    with av.open(str(path)) as found:
        assert "webm" in found.format.name


def test_a_folder_takes_pictures_and_nothing_else(run, tmp_path):
    folder = tmp_path / "pictures"
    folder.mkdir()
    code, _, said = run("animate", *IDLE, "--out", folder, "--sheet", folder / "sheet.png")
    assert code == 1
    assert f"--out {folder} and --sheet {folder / 'sheet.png'}" in said
    assert run("animate", *IDLE, "--out", folder)[0] == 0
    assert len(list(folder.glob("*.png"))) == 10


@pytest.mark.parametrize("link", ["hard", "soft", "plain"])
def test_a_source_is_never_written_over(run, tmp_path, link):
    source, other = tmp_path / "talk.mp4", tmp_path / "other.mp4"
    source.write_bytes(Path("speech.m4a").read_bytes())
    {"hard": os.link, "soft": os.symlink, "plain": lambda *_: None}[link](source, other)
    before, out = source.read_bytes(), source if link == "plain" else other
    code, _, said = run("animate", "--reference", "face.png", "--audio", source, "--out", out)
    assert code == 1
    assert f"error: --out {out} would be written over --audio {source}; " in said
    assert source.read_bytes() == before


def test_a_state_may_replace_the_one_that_was_resumed(run, tmp_path):
    state = tmp_path / "state"
    assert run("animate", *IDLE, "--out", tmp_path / "a.mp4", "--save-state", state)[0] == 0
    before = state.read_bytes()
    again = ("animate", "--resume", state, "--idle", "--seconds", 0.4, "--out")
    assert run(*again, tmp_path / "b.mp4", "--save-state", state)[0] == 0
    assert state.read_bytes() != before
    code, _, said = run(*again, tmp_path / "c.mp4", "--stats", state)
    assert code == 1
    assert "--stats" in said
    assert "--resume" in said


def test_no_weights_are_written_over(run, tmp_path, files):
    for name in ("model.safetensors", "model-codec.safetensors"):
        before = (files / name).read_bytes()
        code, _, said = run("animate", *IDLE, "--out", tmp_path / "v.mp4", "--save-state", name)
        assert code == 1
        assert f"--save-state {name} would be written over" in said
        assert (files / name).read_bytes() == before


def test_media_are_named_as_the_user_gave_them(run, tmp_path):
    os.makedirs("sub", exist_ok=True)
    Path("sub/broken.wav").write_bytes(b"RIFF")
    for picture, name in (("face.png", "sub/broken.wav"), ("face.png", "sub/none.wav"), ("sub/none.png", "speech.m4a")):
        code, _, said = run("animate", "--reference", picture, "--audio", name, "--out", tmp_path / "v.mp4")
        assert code == 1
        assert (picture if name == "speech.m4a" else name) in said
    with pytest.raises(MediaError, match=r"sub/none\.mp4"):
        next(read_frames(Path("sub/none.mp4"), 25))


@pytest.mark.parametrize(("total", "code"), [(1.9, 1), (2.1, 0)])
def test_a_peak_that_is_certain_to_pass_all_memory_is_refused(run, tmp_path, monkeypatch, total, code):
    """Activations are estimated within a third; beyond that the system would end the process without a word."""
    need = MemoryNeed(weights=2**20, cache=2**20, anchor=0, text=0, activations=3 * 2**30, decoder=2**30)
    monkeypatch.setattr(preflight, "memory_needed", lambda *_, **__: need)
    monkeypatch.setattr(preflight, "total_memory", lambda _: int(total * 2**30))
    given = ("--reference", "face.png", "--idle", "--seconds", "0.2", "--out", tmp_path / "v.mp4")
    found, _, said = run("animate", *given)
    assert found == code
    assert ("GiB in all; take a smaller size" in said) == bool(code)


def test_a_size_of_the_wrong_kind_is_refused(run, tmp_path, capsys):
    with pytest.raises(SystemExit, match="2"):
        run("animate", "--reference", "face.png", "--idle", "--out", tmp_path / "v.mp4", "--size", "big")
    assert "size is 'big'" in capsys.readouterr().err


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="THIS SYSTEM HAS NO /dev/full: a full disc is not tested")
def test_a_full_disc_is_said(run):
    code, _, said = run("animate", "--reference", "face.png", "--idle", "--seconds", 9, "--out", "/dev/full")
    assert code == 1
    assert "disk is full" in said


def test_a_stream_that_fails_leaves_its_state_once_something_was_made(run, tmp_path, monkeypatch):
    def fails(number):
        calls = iter(range(100))

        def write(writer, pixel_frames):
            if next(calls) == number:
                raise MediaError("the disk is full")
            return whole(writer, pixel_frames)

        return write

    whole = VideoWriter.write
    for number, state in enumerate((tmp_path / "none", tmp_path / "new" / "state")):
        monkeypatch.setattr(VideoWriter, "write", fails(2 * number))
        code, _, said = run("animate", "--reference", "face.png", "--idle", "--seconds", 3, "--out",
                            tmp_path / "v.mp4", "--save-state", state)  # fmt: skip
        assert code == 1
        assert "error: the disk is full" in said
        assert state.exists() == bool(number)
    monkeypatch.setattr(VideoWriter, "write", whole)
    code, _, said = run("animate", "--resume", state, "--seconds", 1, "--out", tmp_path / "rest.mp4")
    assert code == 0, said
    assert len(frames_of(tmp_path / "rest.mp4")) == 25, "driven by nothing but what it has learnt"


def test_a_sheet_that_cannot_be_written_does_not_cost_the_state(run, tmp_path):
    (tmp_path / "sheet.png").symlink_to(tmp_path / "not there" / "sheet.png")
    code, _, said = run("animate", "--reference", "face.png", "--idle", "--seconds", 0.5, "--out", tmp_path / "v.mp4",
                        "--save-state", tmp_path / "state", "--sheet", tmp_path / "sheet.png")  # fmt: skip
    assert code == 1
    assert "sheet.png" in said
    assert (tmp_path / "state").exists()


@pytest.mark.skipif(sys.platform == "win32", reason="WINDOWS SENDS NO SIGINT TO ONE PROCESS: Ctrl-C is not tested")
def test_ctrl_c_ends_the_file_properly(files, tmp_path):
    out = tmp_path / "v.mp4"
    command = [
        sys.executable,
        "-m",
        "knot_core",
        "animate",
        "--reference",
        files / "face.png",
        "--idle",
        "--out",
        out,
        "--model",
        files / "model.safetensors",
        "--dtype",
        "float32",
        "--save-state",
        tmp_path / "state",
    ]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path)
    deadline = time.monotonic() + 60
    while not (out.exists() and out.stat().st_size > 20_000) and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    said, errors = process.communicate(timeout=60)
    assert process.returncode == INTERRUPTED, errors
    assert "holds the" in errors
    assert "Traceback" not in errors
    assert len(frames_of(out)) == json.loads(said)["pixel_frames"] > 0
    assert (tmp_path / "state").exists()


def test_inspect_tells_what_a_file_is(run):
    code, said, _ = run("inspect", "model.safetensors")
    found = json.loads(said)
    assert code == 0
    wanted = {"family": "knot-tiny", "layout": "inpaint36", "in_channels": 36, "missing": [], "unexpected": [],
              "problem": None, "dtypes": ["float32"], "dim": 128, "num_layers": 2, "licence": "Apache-2.0"}  # fmt: skip
    assert found.items() >= wanted.items()
    assert found["schedule"] == [1.0, 0.9375, 0.8333, 0.625]
    assert found["parameters"] > 100_000
    code, said, _ = run("inspect", "model-codec.safetensors")
    assert (code, json.loads(said)["family"]) == (0, "taehv")


def test_inspect_tells_what_is_wrong_with_a_file(run, tmp_path):
    save_file({"blocks.0.x": torch.zeros(2)}, tmp_path / "odd.safetensors")
    code, said, _ = run("inspect", tmp_path / "odd.safetensors")
    assert code == 1
    assert "is no Wan network" in json.loads(said)["problem"]
    code, _, said = run("inspect", tmp_path / "none.safetensors")
    assert code == 1
    assert "there is no model" in said


def test_bench_shows_where_the_time_goes(run):
    code, said, table = run("bench", "--chunks", 3, "--steps", 2)
    assert code == 0
    figures = json.loads(said)
    assert set(figures) == FIGURES | {"seconds", "stages"}
    assert set(figures["stages"]) == {"anchor", "denoise", "commit", "decode", "write"}
    assert all(0 < seconds <= figures["seconds"] for seconds in figures["stages"].values()), "they may run side by side"
    assert (figures["chunks"], figures["pixel_frames"]) == (3, 33)
    for stage in ("anchor", "denoise", "commit", "decode", "write", "other", "all"):
        assert re.search(rf"^{stage} ", table, re.MULTILINE)


def test_peak_memory_is_measured():
    assert 50 < peak_rss_mib() < 100_000


def test_the_public_names_do_what_the_readme_says(files, tmp_path):
    from knot_core import Driving, load_model, open_audio, open_image, open_stream, resume_stream

    model = load_model(files / "model.safetensors", device="cpu", dtype=None)
    anchor = model.encode_anchor(open_image(files / "face.png"))
    driving = Driving.from_audio(open_audio(files / "speech.m4a"), model)
    settings = StreamSettings(num_chunk_frames=3, num_knot_frames=1, num_window_frames=6, run_ahead_stride=4,
                              run_ahead_start=8, steps=4, shift=5.0, fusion=0.5, use_anchor=True,
                              start_from_reference=False)  # fmt: skip
    stream, seen = open_stream(model, anchor, settings, driving, seed=0), []
    for chunk in stream:
        seen.append((chunk.index, chunk.start_frame, len(chunk.latents), len(chunk.pixel_frames)))
        assert set(chunk.seconds) == {"denoise", "decode", "commit"}
        if chunk.index == 2:
            stream.set_driving(Driving.idle(seed=1))
        if chunk.index == 3:
            break
    assert seen == [(0, 0, 3, 9), (1, 3, 3, 12), (2, 6, 3, 12), (3, 9, 3, 12)]
    stream.save(tmp_path / "state.safetensors")
    resumed = resume_stream(model, tmp_path / "state.safetensors", Driving.idle(seed=1))
    assert torch.equal(next(resumed).pixel_frames, next(stream).pixel_frames)


def test_threads_are_those_that_suit_or_are_asked_for_and_a_resumed_stream_keeps_them(run, tmp_path):
    state, before = tmp_path / "a.state", torch.get_num_threads()
    common = ("animate", "--idle", "--seconds", 0.4, "--out", tmp_path / "v.mp4", "--save-state", state)

    def threads(*more):
        code, said, _ = run(*common, *more)
        assert code == 0
        return json.loads(said)["threads"]

    try:
        assert threads("--reference", "face.png") == 1
        assert threads("--reference", "face.png", "--threads", 2) == 2
        torch.set_num_threads(before)
        assert threads("--resume", state) == 2
        assert threads("--resume", state, "--threads", 1) == 1
        assert threads("--resume", state) == 1
    finally:
        torch.set_num_threads(before)


def test_a_stream_that_runs_out_of_disc_leaves_the_state_behind_what_was_written(run, tmp_path, monkeypatch):
    """The file and what goes on from the state join, to the frame."""
    write, written = VideoWriter.write, []

    def full_after_two(self, pixel_frames):
        if len(written) == 2:
            raise MediaError("the disk is full")
        written.append(len(pixel_frames))
        write(self, pixel_frames)

    monkeypatch.setattr(VideoWriter, "write", full_after_two)
    state = tmp_path / "left.state"
    code, _, said = run("animate", "--reference", "face.png", "--idle", "--seconds", 4, "--out", tmp_path / "v.mp4",
                        "--save-state", state)  # fmt: skip
    assert code == 1
    assert "the disk is full" in said
    monkeypatch.undo()
    run("animate", "--resume", state, "--idle", "--seconds", 0.4, "--out", tmp_path / "w.mp4")
    whole = tmp_path / "whole.mp4"
    run("animate", "--reference", "face.png", "--idle", "--seconds", 4, "--out", whole)
    joined = np.concatenate([frames_of(tmp_path / "v.mp4"), frames_of(tmp_path / "w.mp4")])
    assert len(frames_of(tmp_path / "v.mp4")) == sum(written) == 21
    assert np.abs(joined.astype(int) - frames_of(whole)[: len(joined)]).mean() < 3  # each is compressed by itself
