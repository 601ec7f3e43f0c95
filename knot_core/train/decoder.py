"""Tune the codec's decoder on what the student streams.

The student's latents are never quite the encoder's: they are a little blurred, and every latent frame errs in its own
way, which shows as a beat at the latent frames' rate. A decoder that has met such latents, with the true pictures
beside them, draws sharper and steadier ones; LTX-Video (arXiv 2501.00103, sec. 2.2.2) lets its decoder end the
denoising in this way. The encoder stays, and with it the latent space.

Half of the clips are the encoder's latents of new people, so that the autoencoder stays one. A discriminator sees four
pictures in a row: sharp and steady is what looks real.

Shapes: B clips, F latent frames, T pixel frames.
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
from torch.nn import functional as fn

from ..codec.taehv import TAEHV, run_layers
from ..geometry import SPATIAL, TEMPORAL
from . import avatars
from .codec import OUTER, CodecRecipe, charbonnier, crop_corners, measure, picture_loss, render_crops
from .common import cosine, lively_controls, load_checkpoint, log_line, save_checkpoint
from .discriminator import Adversary
from .optim import MatrixOptimizer
from .streams import Streams

_CELL = 4  # pixels each way that the discriminator sees as one
_SEEN = 4  # pictures in a row that it sees


@dataclass(frozen=True, kw_only=True)
class DecoderRecipe(CodecRecipe):
    """Everything that decides the result of the decoder's tuning."""

    clips: int = 4  # of new people, through the encoder
    streams: int = 4
    groups: int = 3
    steps: int = 3000
    warmup: int = 30
    lr: float = 3e-4
    muon_lr: float = 6e-4
    motion: float = 1.0  # how much the change from picture to picture counts
    adversarial: float = 0.2  # how strongly the discriminator pulls, as a share of the other losses' gradient
    adversary_noise: float = 0.03  # what both sides of the discriminator get added; pixels are in 0..1


def train(recipe: DecoderRecipe, codec: TAEHV, streams: Streams, folder: Path) -> TAEHV:
    """Tune, or go on from the folder's checkpoint."""
    codec.to(recipe.device).requires_grad_(False)
    codec.decoder.requires_grad_(True)
    learns = ((name, weight) for name, weight in codec.named_parameters() if weight.requires_grad)
    optimizer = MatrixOptimizer(learns, OUTER, recipe.lr, recipe.muon_lr)
    channels = 3 * _SEEN * _CELL**2
    adversary = Adversary(channels, recipe.adversarial, recipe.seed, recipe.device, noise=recipe.adversary_noise)
    start, draw, began = 0, avatars.compiled_draw(), time.time()
    if (state := load_checkpoint(folder / "decoder.ckpt")) is not None:
        codec.load_state_dict(state["codec"])
        optimizer.load_state_dict(state["optimizer"])
        adversary.load_state_dict(state["adversary"])
        start = state["step"]
    through = torch.compile(partial(_through, codec), dynamic=False)
    for step in range(start, recipe.steps):
        losses = _losses(recipe, through, streams, step, draw, adversary)
        losses["loss"].backward()
        norm = optimizer.step(cosine(step, recipe.steps, recipe.warmup))
        if (step + 1) % 20 == 0:
            figures = {name: value.item() for name, value in losses.items()}
            log_line(folder / "decoder.log", step=step + 1, **figures, norm=norm.item(), seconds=time.time() - began)
        if (step + 1) % recipe.save_every == 0 or step + 1 == recipe.steps:
            save_checkpoint(folder / "decoder.ckpt", {
                "codec": codec.state_dict(),
                "optimizer": optimizer.state_dict(),
                "adversary": adversary.state_dict(),
                "step": step + 1,
            })  # fmt: skip
            log_line(folder / "decoder.log", step=step + 1, **measure(codec, recipe))
    return codec


def _losses(
    recipe: DecoderRecipe, through: Callable, streams: Streams, step: int, draw: Callable, adversary: Adversary
) -> dict[str, Tensor]:
    rng = torch.Generator().manual_seed(recipe.seed * 1_000_003 + step)
    latents, pixels, weight = draw_batch(recipe, streams, step, draw, rng)
    noise = recipe.noise * torch.randn((recipe.clips, recipe.groups, *latents.shape[2:]), generator=rng)
    with torch.autocast(recipe.device.split(":")[0], torch.bfloat16):
        output = through(pixels[: recipe.clips], latents, noise.to(latents))
    output = output.float()
    error = output - pixels
    motion = (charbonnier(error[:, 1:] - error[:, :-1]) * weight[:, 1:]).mean()
    loss = picture_loss(recipe, output, pixels, weight) + recipe.motion * motion
    parts = {
        "encoded": charbonnier(error[: recipe.clips]).mean().detach(),
        "streamed": charbonnier(error[recipe.clips :]).mean().detach(),
        "motion": motion.detach(),
    }
    offset = int(torch.randint(_SEEN, (), generator=rng))  # within a latent frame's pictures, or from one to the next
    counts = in_a_row(weight, offset).mean(dim=1, keepdim=True)
    return {"loss": adversary.opposed(loss, output, pixels, counts, rng, partial(detail, offset=offset))} | parts


def draw_batch(
    recipe: DecoderRecipe, streams: Streams, step: int, draw: Callable, rng: torch.Generator
) -> tuple[Tensor, Tensor, Tensor]:
    """The student's latents [S, F, 16, h, w], and the pictures [B + S, T, 3, H, W] of new people and of the streams'
    with what each pixel counts [B + S, T, 1, H, W].
    """
    dice = np.random.default_rng([recipe.seed, 2, step])
    rows = torch.randint(len(streams.latents), (recipe.streams,), generator=rng)
    starts = torch.randint(streams.latents.shape[1] - recipe.groups + 1, (recipe.streams,), generator=rng)
    latents, controls, seeds = streams.window(rows, starts, recipe.groups)
    fresh = lively_controls(dice, recipe.clips, TEMPORAL * recipe.groups)
    fresh[::2, : TEMPORAL - 1] = fresh[::2, TEMPORAL - 1 : TEMPORAL]  # every other clip starts like a stream
    people = [step * recipe.clips + i for i in range(recipe.clips)] + seeds.tolist()
    values = avatars.stack_identities([avatars.identity(seed) for seed in people])
    controls = torch.cat([fresh, controls])
    corners = crop_corners(recipe, values, controls, dice) // SPATIAL * SPATIAL
    pixels, weight = render_crops(recipe, values, controls, corners, draw)
    weight = weight.clone()
    weight[recipe.clips :, :TEMPORAL] *= (starts == 0)[:, None, None, None, None].to(weight)  # else it had a past
    here = corners[recipe.clips :] // SPATIAL
    side = recipe.crop // SPATIAL
    cut = [one[..., top : top + side, left : left + side] for one, (top, left) in zip(latents, here, strict=True)]
    return torch.stack(cut).to(recipe.device), pixels, weight / weight.mean()


def in_a_row(pictures: Tensor, offset: int) -> Tensor:
    """Pictures [B, T, C, H, W] -> every four in a row, from `offset` on: [N, 4 C 16, H/4, W/4]."""
    count = (pictures.shape[1] - offset) // _SEEN
    rows = pictures[:, offset : offset + count * _SEEN].unflatten(1, (count, _SEEN))
    return fn.pixel_unshuffle(rows.flatten(0, 1).flatten(1, 2), _CELL)


def detail(pictures: Tensor, offset: int) -> Tensor:
    """Of every four pictures in a row, what is in them beside their common local colour: edges, and what changes.

    A discriminator that sees colours pulls at them without end, until the picture is lost.
    """
    cells = in_a_row(pictures, offset).unflatten(1, (_SEEN, pictures.shape[2], -1))
    return (cells - cells.mean(dim=(1, 3), keepdim=True)).flatten(1, 3)


def _through(codec: TAEHV, pixels: Tensor, latents: Tensor, noise: Tensor) -> Tensor:
    """Pictures through the encoder, streamed latents as they are, and pixels of all."""
    with torch.no_grad():
        encoded, _ = run_layers(codec.encoder, pixels.flatten(0, 1), len(pixels), None)
    every = torch.cat([encoded.unflatten(0, (len(pixels), -1)) + noise, latents])
    output, _ = run_layers(codec.decoder, every.flatten(0, 1), len(every), None)
    return output.unflatten(0, (len(every), -1))
