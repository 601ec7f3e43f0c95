"""From checkpoints to the files that ship: half-precision weights with metadata, sample portraits, sample speech."""

from __future__ import annotations

import hashlib
import json
import wave
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file

from knot_core.config import NetworkConfig, StreamSettings
from knot_core.wan.checkpoint import save_network
from knot_core.wan.families import PRESETS
from knot_core.wan.model import WanNetwork, cast_weights

from ..synthetic import avatars
from ..synthetic.sentences import speak
from .rollout import StudentRecipe
from .training_state import load_checkpoint

PORTRAITS = {
    "ada": 33,
    "ben": 30,
    "cleo": 57,
    "dan": 53,
}  # name -> identity of the evaluation's split: never trained on
SPEECH_SEED, SPEECH_SECONDS = 4, 14.0


def export(folder: Path, assets: Path) -> dict[str, str]:
    """Write ``knot-tiny.safetensors`` and ``knot-tiny-codec.safetensors``; returns the files' sha256."""
    assets.mkdir(parents=True, exist_ok=True)
    student = load_checkpoint(folder / "student.ckpt")
    codec = load_checkpoint(folder / "decoder.ckpt") or load_checkpoint(folder / "codec.ckpt")
    if student is None:
        raise SystemExit(f"there is no trained student in {folder}; run the stage 'student' first")
    of = student.get("of")
    recipe = replace(StudentRecipe(), steps=student["step"])
    if of is not None:
        recipe = replace(
            recipe,
            network=NetworkConfig.from_dict(json.loads(of["network"])),
            settings=StreamSettings.from_dict(json.loads(of["settings"])),
        )
    network = WanNetwork(recipe.network)
    network.load_state_dict(student["average"])
    save_student(assets / "knot-tiny.safetensors", network, recipe)
    if codec is not None:  # else the student was trained on the shipped codec's latents, and that one stays
        tensors = {name: tensor.half().contiguous() for name, tensor in codec["codec"].items()}
        preset = PRESETS["knot-tiny"]
        metadata = {"family": "taehv", "licence": preset.licence, "size": str(preset.width), "fps": str(preset.fps)}
        save_file(tensors, assets / "knot-tiny-codec.safetensors", metadata=metadata)
    sums = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(assets.glob("*.safetensors"))}
    print(json.dumps(sums, indent=2))  # noqa: T201
    return sums


def save_student(path: Path, network: WanNetwork, recipe: StudentRecipe) -> None:
    """Its weights, in half precision, with the settings that it was trained to stream by."""
    preset = replace(PRESETS["knot-tiny"], settings=recipe.settings)
    save_network(path, cast_weights(network, torch.bfloat16), preset, steps=str(recipe.steps))


def write_samples(assets: Path) -> None:
    """Portraits of people that no training has seen, and a held-out voice saying a held-out text."""
    (assets / "portraits").mkdir(parents=True, exist_ok=True)
    (assets / "speech").mkdir(parents=True, exist_ok=True)
    for name, seed in PORTRAITS.items():
        values = avatars.stack_identities([avatars.identity(seed, "eval")])
        picture = avatars.to_uint8(avatars.render(values, torch.zeros(1, 1, 8), size=512)[0, 0])
        Image.fromarray(picture.numpy()).save(assets / "portraits" / f"{name}.png", optimize=True)
    speech = speak(SPEECH_SEED, "eval", seconds=SPEECH_SECONDS)
    with wave.open(str(assets / "speech" / "hello.wav"), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16000)
        file.writeframes((np.clip(speech.waveform, -1, 1) * 32767).astype("<i2").tobytes())
