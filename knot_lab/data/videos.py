"""`prepare`: a folder of videos with sound becomes clips as every recipe reads them (examples.py).

It goes on where it stopped: a line of `prepared.jsonl` is written after each shard, and says how far into which file it
reaches. A file that cannot be read is listed there, and skipped.
Shapes: T pixel frames, H W size, F latent frames, S signal dim.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Iterator
from contextlib import closing, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import av
import numpy as np
import torch
from einops import rearrange
from safetensors.torch import save_file
from torch import Tensor, nn

from knot_core.driving.audio import FPS, MEL_DIM
from knot_core.driving.expression_controls import CONTROLS
from knot_core.driving.mel import SpokenMel
from knot_core.driving.spoken_sound import spoken
from knot_core.errors import KnotError, MediaError, SettingsError
from knot_core.geometry import latent_size, num_pixel_frames
from knot_core.media import AudioFile, fit_image
from knot_core.media.decoding import clip_start
from knot_core.stream.stream_model import StreamCodec, sampled_weights

from ..recipes import Recipe
from .clip_shards import per_latent_frame

MANIFEST = "prepared.jsonl"
SUFFIXES = (".mp4", ".mov", ".mkv", ".webm", ".avi", ".m4v")
SHARD = 64  # clips of a shard
REFERENCES = 4  # pictures of each clip: its last frame, and later ones where the video goes on
_REACH = 50  # pixel frames behind the clip that a reference may lie

Clip = dict[str, Tensor]


@dataclass(kw_only=True)
class Progress:
    """The contents of the manifest: the number of clips of each file in shards, finished files and bad files."""

    shards: int = 0
    clips: dict[str, int] = field(default_factory=dict)
    done: set[str] = field(default_factory=set)
    bad: dict[str, str] = field(default_factory=dict)
    made_for: dict[str, Any] = field(default_factory=dict)  # codec and sizes; empty where there is nothing yet

    @classmethod
    def read(cls, path: Path) -> Progress:
        found = cls()
        for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else ():
            try:
                found.add(json.loads(line))
            except json.JSONDecodeError:  # empty, or cut off while it was written: its shard is made again
                continue
        return found

    def add(self, line: dict[str, Any]) -> None:
        self.shards += "shard" in line
        self.clips |= line.get("clips", {})
        self.done |= set(line.get("done", ()))
        self.bad |= line.get("bad", {})
        self.made_for |= line.get("made_for", {})


def prepare_videos(videos: Path, codec: StreamCodec, recipe: Recipe, folder: Path, shard: int = SHARD) -> Progress:
    """Make the clips that are not there yet; what there is then."""
    files = sorted(path for path in videos.rglob("*") if path.suffix.lower() in SUFFIXES)
    if not files:
        raise SettingsError(f"{videos} holds no videos ({', '.join(SUFFIXES)}); name the folder that does")
    folder.mkdir(parents=True, exist_ok=True)
    progress, pending, finished = Progress.read(folder / MANIFEST), [], []
    _require_same(folder, progress, _made_for(codec, recipe))
    for path in files:
        name = str(path.relative_to(videos))
        if name in progress.done or name in progress.bad:
            continue
        try:
            for number, clip in enumerate(video_clips(path, codec, recipe)):
                if number < progress.clips.get(name, 0):
                    continue
                pending.append((name, number, clip))
                if len(pending) == shard:
                    _write(folder, progress, pending, finished)
                    pending, finished = [], []
        except (KnotError, av.error.FFmpegError, OSError) as problem:
            pending = [part for part in pending if part[0] != name]
            _note(folder, progress, {"bad": {name: str(problem)}})
            sys.stderr.write(f"skipped {name}: {problem}\n")
            continue
        finished.append(name)
    if pending or finished:
        _write(folder, progress, pending, finished)
    return progress


def _made_for(codec: StreamCodec, recipe: Recipe) -> dict[str, Any]:
    weights = sampled_weights(codec) if isinstance(codec, nn.Module) else type(codec).__name__.encode()
    return {
        "codec": hashlib.sha256(weights).hexdigest()[:16],
        "height": recipe.height,
        "width": recipe.width,
        "latent_frames": recipe.example_frames,
    }


def _require_same(folder: Path, progress: Progress, wanted: dict[str, Any]) -> None:
    """Clips of one folder are of one codec, one size, one length."""
    other = {name: value for name, value in progress.made_for.items() if wanted[name] != value}
    if other:
        asked = ", ".join(f"{name} {wanted[name]}" for name in other)
        there = ", ".join(f"{name} {value}" for name, value in other.items())
        raise SettingsError(f"the clips in {folder} are of {there}, these would be of {asked}; name another folder")
    if not progress.made_for:
        _note(folder, progress, {"made_for": wanted})


def video_clips(path: Path, codec: StreamCodec, recipe: Recipe) -> Iterator[Clip]:
    """One clip after another, without gaps, until the video is too short for one more."""
    sound = _sound(path)
    with closing(sound) if sound is not None else nullcontext():
        yield from _clips(path, None if sound is None else SpokenMel(spoken(sound)), codec, recipe)


def _clips(path: Path, speech: SpokenMel | None, codec: StreamCodec, recipe: Recipe) -> Iterator[Clip]:
    length = num_pixel_frames(0, recipe.example_frames)
    frames: list[Tensor] = []
    first, made = 0, 0
    for picture in _pictures(path, recipe.height, recipe.width):
        frames.append(picture)
        if len(frames) == length + _REACH:
            yield _clip(frames, length, speech, first, codec)
            frames, first, made = frames[length:], first + length, made + 1
    while len(frames) >= length:
        yield _clip(frames, length, speech, first, codec)
        frames, first, made = frames[length:], first + length, made + 1
    if not made:
        raise MediaError(f"it has {len(frames)} pictures at {FPS} a second, a clip needs {length}; give a longer one")


@torch.no_grad()
def _clip(frames: list[Tensor], length: int, speech: SpokenMel | None, first: int, codec: StreamCodec) -> Clip:
    """Latents, references (each encoded by itself, as a user's picture is), their positions, and the signal."""
    last, spare = length - 1, len(frames) - length
    at = [last + spare * number // max(1, REFERENCES - 1) for number in range(REFERENCES)]
    references = torch.cat([_encode(codec, [frames[number]])[:, 0] for number in at])
    frames_heard = np.arange(first, first + length)
    mel = torch.zeros(length, MEL_DIM) if speech is None else torch.from_numpy(speech.at(frames_heard))
    flags = torch.tensor([float(speech is not None), 0.0, 0.0]).expand(length, 3)
    signal = torch.cat([mel, torch.zeros(length, len(CONTROLS)), flags], dim=-1)
    return {
        "latents": _encode(codec, frames[:length])[0].half(),
        "references": references.half(),
        "reference_positions": torch.tensor(
            [-(-number // 4) for number in at]
        ),  # latent frame f ends at pixel frame 4f
        "signal": per_latent_frame(signal).half(),
    }


def _encode(codec: StreamCodec, frames: list[Tensor]) -> Tensor:
    pixels = rearrange(torch.stack(frames), "t h w c -> 1 t c h w").float() / 255
    device = next(codec.parameters()).device if isinstance(codec, nn.Module) else pixels.device
    return codec.encode(pixels.to(device)).float().cpu()


def _sound(path: Path) -> AudioFile | None:
    """The sound from the first picture on; None for a video without sound."""
    with av.open(str(path)) as container:
        if not container.streams.video:
            raise MediaError("it has no pictures; give videos")
        if not container.streams.audio:
            return None
        picture = next(container.decode(video=0), None)
        late = 0.0 if picture is None else float(picture.time or 0.0) - clip_start(container)
    return AudioFile(path, seconds=max(0.0, late))


def _pictures(path: Path, height: int, width: int) -> Iterator[Tensor]:
    """uint8 [H, W, 3], `FPS` a second whatever the file has: of each moment the last picture before it."""
    latent_size(height, width)
    with av.open(str(path)) as container:
        stream, count, last, begin = container.streams.video[0], 0, None, None
        for frame in container.decode(stream):
            now = float(frame.time or 0.0)
            begin = now if begin is None else begin
            while last is not None and count < round((now - begin) * FPS, 6):
                yield last
                count += 1
            image = torch.from_numpy(frame.to_ndarray(format="rgb24")).float() / 255
            last = fit_image(image, height, width).mul(255).round().byte()
        if last is not None:
            yield last


def _write(folder: Path, progress: Progress, clips: list[tuple[str, int, Clip]], finished: list[str]) -> None:
    line: dict[str, Any] = {"done": list(finished)}
    if clips:
        name = f"videos-{progress.shards:05d}.safetensors"
        tensors = {key: torch.stack([clip[key] for _, _, clip in clips]) for key in clips[0][2]}
        save_file(tensors, folder / f"{name}.part")
        (folder / f"{name}.part").replace(folder / name)
        line |= {"shard": name, "clips": {file: number + 1 for file, number, _ in clips}}
    _note(folder, progress, line)


def _note(folder: Path, progress: Progress, line: dict[str, Any]) -> None:
    progress.add(line)
    with (folder / MANIFEST).open("a", encoding="utf-8") as file:
        file.write("\n" + json.dumps(line) + "\n")  # a line of its own, even after one that was cut off
