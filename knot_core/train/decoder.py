"""Last stage: the codec's decoder learns to show what the student really draws.

The encoder and the student stay as they are. The decoder trains on whole pictures, on the encoder's latents with noise
of a random strength up to about the error that the student's latents have.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..codec.taehv import TAEHV, run_layers
from . import avatars
from .codec import CodecRecipe, measure, picture_loss
from .common import box_mask, cosine, lively_controls, load_checkpoint, log_line, save_checkpoint
from .optim import MatrixOptimizer

WHOLE_PICTURES = CodecRecipe(crop=128, face_crops=0.0, face=3.0, features=6.0)


@dataclass(frozen=True, kw_only=True)
class DecoderRecipe:
    """Everything that decides the result of the decoder's last training."""

    codec: CodecRecipe = WHOLE_PICTURES
    clips: int = 3
    steps: int = 500
    warmup: int = 20
    lr: float = 5e-4
    muon_lr: float = 1e-3
    noise: float = 0.08
    first_identity: int = 1_000_000  # after those that the codec has seen
    save_every: int = 100


def train(recipe: DecoderRecipe, codec: TAEHV, folder: Path) -> TAEHV:
    """Train, or go on from the folder's checkpoint."""
    parameters = [(name, weight) for name, weight in codec.named_parameters() if name.startswith("decoder.")]
    optimizer = MatrixOptimizer(parameters, ("decoder.1.", "decoder.22."), recipe.lr, recipe.muon_lr)
    start, path, began = 0, folder / "decoder.ckpt", time.time()
    if (state := load_checkpoint(path)) is not None:
        codec.load_state_dict(state["codec"])
        optimizer.load_state_dict(state["optimizer"])
        start = state["step"]
    draw, decode = avatars.compiled_draw(), torch.compile(partial(_decode, codec), dynamic=False)
    for step in range(start, recipe.steps):
        pixels, weight = _batch(recipe, step, draw)
        loss = _loss(recipe, codec, decode, pixels, weight, step)
        loss.backward()
        optimizer.step(cosine(step, recipe.steps, recipe.warmup))
        if (step + 1) % 20 == 0:
            log_line(folder / "decoder.log", step=step + 1, loss=loss.item(), seconds=time.time() - began)
        if (step + 1) % recipe.save_every == 0 or step + 1 == recipe.steps:
            save_checkpoint(path, {"codec": codec.state_dict(), "optimizer": optimizer.state_dict(), "step": step + 1})
            log_line(folder / "decoder.log", step=step + 1, **measure(codec, recipe.codec))
    return codec


def _decode(codec: TAEHV, latents: Tensor) -> Tensor:
    """Latents [B, F, C, h, w] -> all 4 F frames; the three before the first picture, too."""
    output, _ = run_layers(codec.decoder, latents.flatten(0, 1), latents.shape[0], None)
    return output.unflatten(0, (latents.shape[0], -1))


def _batch(recipe: DecoderRecipe, step: int, draw: Callable) -> tuple[Tensor, Tensor]:
    rng = np.random.default_rng([recipe.codec.seed, 2, step])
    first = recipe.first_identity + step * recipe.clips
    values = avatars.stack_identities([avatars.identity(first + i) for i in range(recipe.clips)])
    controls = lively_controls(rng, recipe.clips, 12)
    controls[:, :3] = controls[:, 3:4]
    where, size = (values[:, None], controls, recipe.codec.size), recipe.codec.size
    features = torch.maximum(
        box_mask(avatars.eye_boxes(*where), size).amax(dim=-3), box_mask(avatars.mouth_box(*where), size)
    )
    weight = 1 + recipe.codec.face * box_mask(avatars.face_box(*where), size) + recipe.codec.features * features
    with torch.no_grad():
        return avatars.render(values, controls, size, draw=draw), (weight / weight.mean())[:, :, None]


def _loss(recipe: DecoderRecipe, codec: TAEHV, decode: Callable, pixels: Tensor, weight: Tensor, step: int) -> Tensor:
    rng = torch.Generator().manual_seed(recipe.codec.seed * 1_000_003 + step)
    with torch.autocast("cpu", torch.bfloat16):
        with torch.no_grad():
            latents = codec.encode(pixels[:, 3:]).float()
        strength = recipe.noise * torch.rand((len(latents), 1, 1, 1, 1), generator=rng)
        output = decode(latents + strength * torch.randn(latents.shape, generator=rng)).float()
    return picture_loss(recipe.codec, output, pixels, weight)
