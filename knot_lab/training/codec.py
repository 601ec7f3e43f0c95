"""Train the built-in model's video autoencoder on procedural portraits.

A fixed-variance variational autoencoder: Gaussian noise of ``noise`` on the latents and a small pull towards zero make
the latent space smooth, so that a small error of the network stays a small error in the picture. The loss counts the
face several times, since that is what is looked at, and compares edges, since that is what a plain loss blurs.

The second stage trains the decoder on, while the encoder stays and with it the latent space. A regression draws an edge
that it is not sure of too faintly. A loss of local contrast, which asks how strong the edges near a place are and not
where exactly they lie, gives them their strength back at little cost in error.
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

from knot_core.codec.taehv import TAEHV, CodecConfig, MemBlock, TGrow, TPool, run_layers

from ..evaluation.metrics import gradient_energy, psnr, sharpness, squared_error
from ..precision import mixed_precision
from ..synthetic import avatars
from ..synthetic.avatars import box_mask
from ..synthetic.motion import lively_controls
from .losses import charbonnier, contrast_loss, edges_of
from .optim import MatrixOptimizer
from .training_state import cosine, load_checkpoint, log_line, save_checkpoint

_OUTER = ("encoder.0.", "encoder.17.", "decoder.1.", "decoder.22.")  # first and last layers
_NEAR = 8  # pixels each way over which the strength of edges is compared
_COLOUR_GAIN = 4.0  # colours in 0..1 start as latents in -2..2


KNOT_TINY_CODEC = CodecConfig(encoder=(16, 32, 64, 96), decoder=(160, 64, 32, 24))


@dataclass(frozen=True, kw_only=True)
class CodecRecipe:
    """Everything that decides the result of codec training."""

    codec: CodecConfig = KNOT_TINY_CODEC
    size: int = 128
    crop: int = 64  # side of the part of each clip that is trained on
    face_crops: float = 0.7  # share of the crops that look at the face
    clips: int = 8
    groups: int = 2  # latent frames of a clip
    steps: int = 3600
    warmup: int = 60
    lr: float = 1.5e-3
    muon_lr: float = 2.5e-3
    noise: float = 0.1
    noise_ramp: int = 500  # steps until the noise is whole
    pull: float = 3e-4
    edges: float = 1.0
    contrast: float = 0.0  # how strong edges are
    motion: float = 0.0  # what changes from picture to picture
    face: float = 1.0
    features: float = 3.0
    first: int = 0  # the first identity
    seed: int = 0
    save_every: int = 200
    device: str = "cpu"


@dataclass(frozen=True, kw_only=True)
class DecoderRecipe(CodecRecipe):
    """Everything that decides the result of the decoder's second stage."""

    steps: int = 2400
    warmup: int = 30
    lr: float = 5e-4
    muon_lr: float = 1e-3
    noise_ramp: int = 1
    contrast: float = 1.0
    motion: float = 1.0
    first: int = 100_000


def train(recipe: CodecRecipe, folder: Path) -> TAEHV:
    """Train the autoencoder, or go on from the folder's checkpoint."""
    torch.manual_seed(recipe.seed)
    return _train(recipe, _plain_start(TAEHV(recipe.codec)), folder, "codec")


def train_decoder(recipe: DecoderRecipe, codec: TAEHV, folder: Path) -> TAEHV:
    """Train the decoder of a codec further, or go on from the folder's checkpoint."""
    codec.encoder.requires_grad_(False)
    return _train(recipe, codec, folder, "decoder")


def _train(recipe: CodecRecipe, codec: TAEHV, folder: Path, name: str) -> TAEHV:
    codec.to(recipe.device)
    learns = [(key, weight) for key, weight in codec.named_parameters() if weight.requires_grad]
    optimizer = MatrixOptimizer(learns, _OUTER, recipe.lr, recipe.muon_lr)
    start, draw, began = 0, avatars.compiled_draw(), time.time()
    if (state := load_checkpoint(folder / f"{name}.ckpt")) is not None:
        codec.load_state_dict(state["codec"])
        optimizer.load_state_dict(state["optimizer"])
        start = state["step"]
    through = torch.compile(partial(_through, codec), dynamic=False)
    for step in range(start, recipe.steps):
        pixels, weight = _batch(recipe, step, draw)
        loss = _loss(recipe, through, pixels, weight, step)
        loss.backward()
        norm = optimizer.step(cosine(step, recipe.steps, recipe.warmup))
        if (step + 1) % 20 == 0:
            figures = {"loss": loss.item(), "norm": norm.item()}
            log_line(folder / f"{name}.log", step=step + 1, **figures, seconds=time.time() - began)
        if (step + 1) % recipe.save_every == 0 or step + 1 == recipe.steps:
            state = {"codec": codec.state_dict(), "optimizer": optimizer.state_dict(), "step": step + 1}
            save_checkpoint(folder / f"{name}.ckpt", state)
            log_line(folder / f"{name}.log", step=step + 1, **measure(codec, recipe))
    return codec


@torch.no_grad()
def measure(codec: TAEHV, recipe: CodecRecipe, clips: int = 8) -> dict[str, float]:
    """Figures on held-out identities: PSNR over the picture and in the face box, sharpness there, latent statistics."""
    rng = np.random.default_rng(5)
    values = avatars.stack_identities([avatars.identity(i, "eval") for i in range(clips)])
    controls = lively_controls(rng, clips, 9)
    truth = avatars.render(values, controls, recipe.size).to(recipe.device)
    latents = codec.encode(truth)
    pixels = codec.decode(latents)[0].clamp(0, 1)
    face = box_mask(avatars.face_box(values[:, None], controls, recipe.size), recipe.size).flatten(0, 1)
    seen, true = (frames.flatten(0, 1).movedim(1, -1).cpu() for frames in (pixels, truth))
    return {
        "psnr": psnr(squared_error(seen, true, torch.ones_like(face))),
        "psnr_face": psnr(squared_error(seen, true, face)),
        "sharpness_face": sharpness(gradient_energy(seen, face), gradient_energy(true, face)),
        "latent_std": float(latents.std()), "latent_max": float(latents.abs().max()),
    }  # fmt: skip


def _batch(recipe: CodecRecipe, step: int, draw: Callable) -> tuple[Tensor, Tensor]:
    """Parts of clips of new identities: pixels [B, T, 3, H, W] and what each pixel counts [B, T, 1, H, W]."""
    rng = np.random.default_rng([recipe.seed, 1, step])
    people = range(recipe.first + step * recipe.clips, recipe.first + (step + 1) * recipe.clips)
    values = avatars.stack_identities([avatars.identity(number) for number in people])
    controls = lively_controls(rng, recipe.clips, 4 * recipe.groups)
    controls[::2, :3] = controls[::2, 3:4]  # every other clip starts like a stream: four times the same picture
    where, size = (values[:, None], controls, recipe.size), recipe.size
    corners = _corners(recipe, avatars.face_box(*where)[:, 0], rng)
    with torch.no_grad():
        crop = (corners.to(recipe.device), recipe.crop)
        pixels = avatars.render(values.to(recipe.device), controls.to(recipe.device), size, crop=crop, draw=draw)
    eyes = box_mask(avatars.eye_boxes(*where), size).amax(dim=-3)
    features = torch.maximum(eyes, box_mask(avatars.mouth_box(*where), size))
    weight = 1 + recipe.face * box_mask(avatars.face_box(*where), size) + recipe.features * features
    rows, columns = (corners[:, axis, None] + torch.arange(recipe.crop) for axis in (0, 1))
    weight = weight[torch.arange(recipe.clips)[:, None, None], :, rows[:, :, None], columns[:, None, :]].movedim(-1, 1)
    return pixels, (weight / weight.mean())[:, :, None].to(recipe.device)


def _corners(recipe: CodecRecipe, face: Tensor, rng: np.random.Generator) -> Tensor:
    """Top and left of each clip's crop: most look at the face, where the detail is; the others anywhere."""
    anywhere = torch.from_numpy(rng.integers(0, recipe.size - recipe.crop + 1, (recipe.clips, 2)))
    centre = (face[:, :2] + face[:, 2:]) // 2 + torch.from_numpy(rng.integers(-16, 17, (recipe.clips, 2)))
    at_face = (centre - recipe.crop // 2).clamp(0, recipe.size - recipe.crop)
    return torch.where(torch.from_numpy(rng.random((recipe.clips, 1)) < recipe.face_crops), at_face, anywhere)


def _loss(recipe: CodecRecipe, through: Callable, pixels: Tensor, weight: Tensor, step: int) -> Tensor:
    rng = torch.Generator(recipe.device).manual_seed(recipe.seed * 1_000_003 + step)
    B, T, _, H, W = pixels.shape
    strength = recipe.noise * min(1.0, step / recipe.noise_ramp)
    noise = strength * torch.randn((B * T // 4, 16, H // 8, W // 8), generator=rng, device=pixels.device)
    with mixed_precision(recipe.device):
        latents, output = through(pixels, noise)
    latents, output = latents.float(), output.float()
    return picture_loss(recipe, output, pixels, weight) + recipe.pull * latents.square().mean()


def picture_loss(recipe: CodecRecipe, output: Tensor, pixels: Tensor, weight: Tensor) -> Tensor:
    """Colours, edges, what changes from picture to picture, and contrast [B, T, 3, H, W] against the truth's; a pixel
    counts by its weight [B, T, 1, H, W].
    """
    error = output - pixels
    edges = sum((charbonnier(edge) * counts).mean() for edge, counts in edges_of(error, weight))
    loss = (charbonnier(error) * weight).mean() + recipe.edges * edges
    if recipe.motion:
        loss = loss + recipe.motion * (charbonnier(error.diff(dim=1)) * weight[:, 1:]).mean()
    if recipe.contrast:
        loss = loss + recipe.contrast * contrast_loss(output, pixels, weight, _NEAR)
    return loss


def _plain_start(codec: TAEHV) -> TAEHV:
    """Start as a picture made small and large again: residual blocks do nothing, colours pass straight through.

    A deep network without normalisation then trains at a high rate, and spends its steps on what a small picture lacks.
    """
    for module in codec.modules():
        if isinstance(module, MemBlock):
            torch.nn.init.zeros_(module.conv[-1].weight)
            torch.nn.init.zeros_(module.conv[-1].bias)
    with torch.no_grad():
        for layer in codec.encoder:
            if isinstance(layer, TPool):
                _pass_colours(layer.conv.weight, 1 / layer.stride, repeat=layer.stride)
            elif isinstance(layer, torch.nn.Conv2d):
                _pass_colours(layer.weight, 1.0, taps=(slice(1, 3), slice(1, 3)) if layer.stride == (2, 2) else (1, 1))
        for layer in (*codec.encoder, *codec.decoder):
            if isinstance(layer, torch.nn.Conv2d) and layer.bias is not None:
                layer.bias[:3] = 0
        last, first = codec.encoder[-1], codec.decoder[1]
        last.weight[3:] *= 3
        last.weight[:3] *= _COLOUR_GAIN
        last.bias[:3] = -_COLOUR_GAIN / 2
        for layer in codec.decoder:
            if isinstance(layer, TGrow):
                for frame in layer.conv.weight.split(layer.conv.weight.shape[1]):
                    _pass_colours(frame, 1.0)
            elif isinstance(layer, torch.nn.Conv2d):
                _pass_colours(layer.weight, 1.0, taps=(1, 1))
        first.weight[:3] /= _COLOUR_GAIN
        first.bias[:3] = 0.5
    return codec


def _pass_colours(weight: Tensor, gain: float, taps: tuple = (0, 0), repeat: int = 1) -> None:
    """Make output channels 0, 1, 2 of a convolution copy input channels 0, 1, 2, averaged over its taps and frames."""
    inputs = weight.shape[1] // repeat
    for colour in range(3):
        weight[colour] = 0
        for frame in range(repeat):
            kernel = weight[colour, frame * inputs + colour]
            kernel[taps] = gain / kernel[taps].numel()


def _through(codec: TAEHV, pixels: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
    """Clips [B, T, 3, H, W] of whole groups of four frames -> latents [B*T/4, 16, h, w], and pixels made of them."""
    B = pixels.shape[0]
    latents, _ = run_layers(codec.encoder, pixels.flatten(0, 1), B, None)
    output, _ = run_layers(codec.decoder, latents + noise, B, None)
    return latents, output.unflatten(0, (B, -1))
