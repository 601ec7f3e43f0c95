"""From checkpoints to the files that ship: half-precision weights with metadata, sample portraits, sample speech."""

from __future__ import annotations

import hashlib
import json
import wave
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor

from knot_core.config import NetworkConfig, StreamSettings
from knot_core.wan.families import find_family
from knot_core.wan.preset import Preset

from ..synthetic import avatars
from ..synthetic.sentences import speak_phrases
from .face_codec import NAME as FACE_CODEC
from .face_codec import export_face_codec
from .training_state import load_training
from .weights_file import network_of, save_student

PORTRAITS = {
    "ada": 33,
    "ben": 30,
    "cleo": 57,
    "dan": 53,
}  # name -> identity of the evaluation's split: never trained on
SPEECH_SEED, SPEECH_SECONDS = 4, 14.0


def export(folder: Path, assets: Path, family: str = "knot-tiny") -> dict[str, str]:
    """Write ``<family>.safetensors`` and ``<family>-codec.safetensors``; returns the files' sha256.

    A folder without a trained autoencoder keeps the one that is there, on whose latents the student was trained.
    """
    assets.mkdir(parents=True, exist_ok=True)
    student = load_training(folder / "student.ckpt")
    if student is None:
        raise SystemExit(f"there is no trained student in {folder}; run the stage 'student' first")
    fixed = {name: json.loads(text) for name, text in student["fixed"].items()}
    network = network_of(NetworkConfig.from_dict(fixed["network"]), student["roles"]["average"])
    settings = StreamSettings.from_dict(fixed["settings"])
    preset = find_family(family)
    save_student(assets / f"{preset.family}.safetensors", network, settings, student["step"], preset)
    if (folder / f"{FACE_CODEC}.ckpt").exists():
        export_face_codec(folder, assets)
    else:
        _export_codec(folder, assets, preset)
    sums = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(assets.glob("*.safetensors"))}
    print(json.dumps(sums, indent=2))  # noqa: T201
    return sums


def _export_codec(folder: Path, assets: Path, preset: Preset) -> None:
    codec = load_training(folder / "decoder.ckpt") or load_training(folder / "codec.ckpt")
    if codec is not None:
        tensors = {name: tensor.half().contiguous() for name, tensor in codec_weights(codec).items()}
        metadata = {"family": "taehv", "licence": preset.licence, "size": str(preset.width), "fps": str(preset.fps)}
        save_file(tensors, assets / f"{preset.family}-codec.safetensors", metadata=metadata)


def codec_weights(checkpoint: Mapping[str, Any]) -> dict[str, Tensor]:
    """The autoencoder's weights in a checkpoint of the stage `codec` or `decoder`."""
    return {name.removeprefix("network."): tensor for name, tensor in checkpoint["roles"]["codec"].items()}


def write_samples(assets: Path) -> None:
    """Portraits of people that no training has seen, and a held-out voice saying a held-out text."""
    (assets / "portraits").mkdir(parents=True, exist_ok=True)
    (assets / "speech").mkdir(parents=True, exist_ok=True)
    for name, seed in PORTRAITS.items():
        values = avatars.stack_identities([avatars.identity(seed, "eval")])
        picture = avatars.to_uint8(avatars.render(values, torch.zeros(1, 1, 8), size=512)[0, 0])
        Image.fromarray(picture.numpy()).save(assets / "portraits" / f"{name}.png", optimize=True)
    speech = speak_phrases(SPEECH_SEED, "eval", seconds=SPEECH_SECONDS)
    with wave.open(str(assets / "speech" / "hello.wav"), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16000)
        file.writeframes((np.clip(speech.waveform, -1, 1) * 32767).astype("<i2").tobytes())
