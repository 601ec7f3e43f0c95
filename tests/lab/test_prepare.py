"""Videos become clips: in step with their sound, once, whatever stops it; and what is bad is said and skipped."""

import json
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from knot_core.codec.taehv import TAEHV, CodecConfig
from knot_core.driving.audio import MEL_DIM
from knot_core.errors import SettingsError
from knot_core.media import Audio, VideoWriter
from knot_lab.changes import changed
from knot_lab.commands import train
from knot_lab.data import videos
from knot_lab.data.examples import open_examples
from knot_lab.recipes import KNOT_TINY
from knot_lab.rng import Dice

RECIPE = changed(KNOT_TINY, ["clip_frames=3", "height=32", "width=32"])  # 4 latent frames: 13 pixel frames


class Brightness:
    """A codec whose latents are the brightness of the last pixel frame of each latent frame."""

    def encode(self, pixels):
        last = pixels[:, ::4] if pixels.shape[1] > 1 else pixels
        return last.mean(dim=(2, 3, 4))[..., None, None, None].expand(*last.shape[:2], 16, 4, 4)


def _video(path: Path, seconds: float, fps: int = 25, sound: bool = True) -> None:
    """It grows brighter by 1/200 of white every 25th of a second; a tone begins after half of it."""
    count = round(seconds * fps)
    samples = np.sin(2 * np.pi * 300 * np.arange(round(seconds * 16000)) / 16000) * 0.5
    samples[: len(samples) // 2] = 0
    audio = Audio(samples=torch.from_numpy(samples[None].astype(np.float32)), sample_rate=16000) if sound else None
    shade = (torch.arange(count) / fps * 25 / 200 * 255).round().clamp(0, 255).byte()
    with VideoWriter(path, width=48, height=32, fps=fps, audio=audio) as writer:
        writer.write(shade[:, None, None, None].expand(count, 32, 48, 3).contiguous())


def _later(path: Path, out: Path, kind: str, seconds: float) -> None:
    """The same packets, those of one kind later."""
    with av.open(str(path)) as source, av.open(str(out), "w") as target:
        streams = {stream: target.add_stream_from_template(stream) for stream in source.streams}
        for packet in source.demux():
            if packet.dts is None:
                continue
            if packet.stream.type == kind:
                ticks = round(seconds / packet.time_base)
                packet.pts, packet.dts = packet.pts + ticks, packet.dts + ticks
            packet.stream = streams[packet.stream]
            target.mux(packet)


def _prepare(folder: Path, out: Path, recipe=RECIPE, **more):
    return videos.prepare_videos(folder, Brightness(), recipe, out, **more)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    found = tmp_path_factory.mktemp("footage")
    _video(found / "a.mp4", 5.0)
    (found / "deeper").mkdir()
    _video(found / "deeper" / "b.mp4", 2.0, fps=50, sound=False)
    _video(found / "short.mp4", 0.3)
    (found / "broken.mp4").write_bytes(b"no video at all")
    return found


def test_clips_follow_each_other_in_step_with_pictures_and_sound(folder, tmp_path):
    progress = _prepare(folder, tmp_path)
    assert progress.done == {"a.mp4", "deeper/b.mp4"}
    clips = load_file(tmp_path / "videos-00000.safetensors")
    count = progress.clips["a.mp4"]
    assert count == 9  # of 13 pictures each, out of 125
    assert clips["latents"].shape == (sum(progress.clips.values()), 4, 16, 4, 4)
    brightness = 200 * clips["latents"].float()[:, :, 0, 0, 0]
    wanted = 13 * torch.arange(count)[:, None] + torch.tensor([0, 4, 8, 12])
    assert (brightness[:count] - wanted).abs().max() < 1.5
    speech = clips["signal"].float()[:count, :, :, :MEL_DIM].mean(dim=-1).flatten(1)
    assert speech.shape == (count, 16)
    loud = speech > speech.min() + 0.3
    starts = 13 * torch.arange(count)[:, None] + torch.tensor([0, 0, 0, 0, *range(1, 13)])
    assert torch.equal(loud, starts >= 62) or (loud ^ (starts >= 62)).sum() <= 2  # the tone begins at 62.5
    flags = clips["signal"][:, 0, 0, MEL_DIM + 8 :]
    assert torch.equal(flags[:count], torch.tensor([[1.0, 0, 0]] * count).half())
    assert not clips["signal"][count:].any()  # a silent film


@pytest.mark.parametrize(("kind", "tone"), [("audio", 62.5 + 25), ("video", 62.5 - 25)])
def test_sound_that_begins_before_or_after_the_pictures_stays_in_step(folder, tmp_path, kind, tone):
    (tmp_path / "footage").mkdir()
    _later(folder / "a.mp4", tmp_path / "footage" / "a.mkv", kind, 1.0)
    _prepare(tmp_path / "footage", tmp_path / "out")
    speech = load_file(tmp_path / "out" / "videos-00000.safetensors")["signal"].float()[..., :MEL_DIM].mean(dim=-1)
    every = torch.cat([speech[:, :1, -1], speech[:, 1:].flatten(1)], dim=1).flatten()  # 13 pixel frames of a clip
    loud = every > every.min() + 0.3
    assert abs(loud.float().argmax().item() - tone) <= 1.5


def test_clips_of_another_size_or_length_need_another_folder(folder, tmp_path):
    _prepare(folder, tmp_path)
    with pytest.raises(SettingsError, match="are of latent_frames 4, these would be of latent_frames 7"):
        _prepare(folder, tmp_path, changed(RECIPE, ["clip_frames=6"]))
    with pytest.raises(SettingsError, match="latents of 4x4, the recipe wants 4x8"):
        open_examples(tmp_path, changed(RECIPE, ["width=64"]))
    assert _prepare(folder, tmp_path).shards == 1


def test_references_are_the_last_picture_and_later_ones_by_themselves(folder, tmp_path):
    _prepare(folder, tmp_path)
    clips = load_file(tmp_path / "videos-00000.safetensors")
    first = 200 * clips["references"].float()[0, :, 0, 0, 0]
    positions = clips["reference_positions"][0]
    assert positions[0] == 3  # the clip's last latent frame
    assert (first[0] - 12).abs() < 1.5
    assert positions.tolist() == sorted(positions.tolist())
    assert (first / 4 - positions).abs().max() < 1.3  # latent frame f ends at pixel frame 4 f


def test_films_of_any_rate_have_the_same_time(folder, tmp_path):
    progress = _prepare(folder, tmp_path)
    clips = load_file(tmp_path / "videos-00000.safetensors")
    brightness = 200 * clips["latents"].float()[progress.clips["a.mp4"], :, 0, 0, 0]  # the first clip of 50 a second
    assert (brightness - torch.tensor([0, 4, 8, 12.0])).abs().max() < 1.5


def test_bad_files_are_listed_once_and_skipped(folder, tmp_path, capsys):
    progress = _prepare(folder, tmp_path)
    assert set(progress.bad) == {"broken.mp4", "short.mp4"}
    assert "a clip needs 13" in progress.bad["short.mp4"]
    assert "skipped broken.mp4" in capsys.readouterr().err
    again = _prepare(folder, tmp_path)
    assert capsys.readouterr().err == ""
    assert vars(again) == vars(progress)


@pytest.mark.parametrize("stop_after", [1, 3, 6])
def test_what_is_cut_off_goes_on_where_it_was(folder, tmp_path, stop_after, monkeypatch):
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    _prepare(folder, whole, shard=2)
    made, real = [], videos._clip

    def stopping(*args):
        made.append(0)
        if len(made) > stop_after:
            raise KeyboardInterrupt
        return real(*args)

    monkeypatch.setattr(videos, "_clip", stopping)
    with pytest.raises(KeyboardInterrupt):
        _prepare(folder, cut, shard=2)
    monkeypatch.setattr(videos, "_clip", real)
    with (cut / videos.MANIFEST).open("a") as file:
        file.write('{"shard": "cut off wh')
    _prepare(folder, cut, shard=2)
    names = [path.name for path in sorted(whole.glob("*.safetensors"))]
    assert names
    assert names == [path.name for path in sorted(cut.glob("*.safetensors"))]
    for name in names:
        one, two = load_file(whole / name), load_file(cut / name)
        assert all(torch.equal(one[key], two[key]) for key in one)


def test_the_recipes_read_what_was_prepared(folder, tmp_path):
    _prepare(folder, tmp_path, shard=4)
    examples = open_examples(tmp_path, RECIPE)
    batch = examples.batch(changed(RECIPE, ["batch=4", "micro_batch=4"]), Dice(0, 0, range(4)))
    assert batch.truth_BFCHW.shape == (4, 4, 16, 4, 4)
    assert batch.given.signal_BFTS.shape == (4, 4, 4, 75)
    assert (batch.given.reference_position_B >= 3).all()


def _tiny_codec(folder: Path, randomised) -> Path:
    save_file(randomised(TAEHV(CodecConfig(encoder=(4, 4, 4, 4), decoder=(8, 4, 4, 4))), 0).state_dict(),
              folder / "codec.safetensors")  # fmt: skip
    return folder / "codec.safetensors"


def _wan_vae(folder: Path, _) -> Path:
    diffusers = pytest.importorskip("diffusers")
    diffusers.AutoencoderKLWan(base_dim=4, z_dim=16).save_pretrained(folder / "vae")
    return folder / "vae"


@pytest.mark.parametrize("make_codec", [_tiny_codec, _wan_vae])
def test_the_command_prepares_with_a_codec_from_a_file(make_codec, folder, tmp_path, capsys, randomised):
    codec = make_codec(tmp_path, randomised)
    options = ["--folder", str(tmp_path), "--codec", str(codec), "--set", "clip_frames=3", "height=32", "width=32"]
    train.main(["prepare", str(folder), *options])
    assert "2 videos were skipped" in capsys.readouterr().out
    clips = load_file(tmp_path / "videos" / "videos-00000.safetensors")
    assert clips["latents"].shape == (12, 4, 16, 4, 4)
    assert clips["latents"].isfinite().all()
    lines = [json.loads(line) for line in (tmp_path / "videos" / videos.MANIFEST).read_text().splitlines() if line]
    assert any("shard" in line for line in lines)


def test_prepare_says_what_it_lacks(folder, tmp_path):
    with pytest.raises(SystemExit, match="brings no codec"):
        train.main(["prepare", str(folder), "--recipe", "wan-1.3b"])
    with pytest.raises(SettingsError, match="holds no videos"):
        _prepare(tmp_path, tmp_path / "out")


def test_the_recipes_read_drawn_portraits_as_well(tmp_path):
    """The shards of `clips`: speech belongs to the mouth, or there is none; the reference stands anywhere later."""
    rng = torch.Generator().manual_seed(0)
    sizes = {
        "latents": (2, 6, 16, 4, 4),
        "references": (2, 3, 16, 4, 4),
        "mel": (2, 6, 4, 64),
        "controls": (2, 6, 4, 8),
    }
    clips = {name: torch.rand(size, generator=rng).half() + 0.1 for name, size in sizes.items()}
    save_file(clips | {"speaking": torch.tensor([True, False])}, tmp_path / "train-0000.safetensors")
    recipe = changed(RECIPE, ["drop=(0.0, 0.0, 0.0)", "later=2"])
    batch = open_examples(tmp_path, recipe).batch(recipe, Dice(0, 0, range(30)))
    signal, position = batch.given.signal_BFTS, batch.given.reference_position_B
    speaks = signal[:, 0, 0, 72] == 1
    assert 0 < speaks.sum() < 30
    assert torch.equal(signal[..., :MEL_DIM].ne(0).flatten(1).any(1), speaks)
    assert (signal[..., MEL_DIM:72] > 0).all()
    assert (signal[..., 73:] == 1).all()
    assert set(position.tolist()) == {2, 3, 4}
