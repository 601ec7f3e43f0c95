"""Train the built-in model's video autoencoder on procedural portraits.

A fixed-variance variational autoencoder: Gaussian noise of ``noise`` on the latents and a small pull towards zero make
the latent space smooth, so that a small error of the network stays a small error in the picture. The loss counts the
face several times, since that is what is looked at, and compares edges, since that is what a plain loss blurs.

The second stage trains the decoder on, while the encoder stays and with it the latent space. A regression draws an edge
that it is not sure of too faintly. A loss of local contrast, which asks how strong the edges near a place are and not
where exactly they lie, gives them their strength back at little cost in error.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor

from knot_core.codec.taehv import TAEHV, MemBlock, TGrow, TPool, run_layers

from ..data.batch import Batch
from ..evaluation.metrics import gradient_energy, psnr, sharpness, squared_error
from ..parallel import Team
from ..recipes import Recipe
from ..rng import Dice
from ..stage_recipes import CodecRecipe
from ..synthetic import avatars
from ..synthetic.avatars import box_mask
from ..synthetic.motion import lively_controls
from .losses import charbonnier, contrast_loss, edges_of
from .optimizers import make_optimizer
from .roles import TrainedModel
from .stage import Losses, Stage, Update, make_role, sampled

_OUTER = ("encoder.0.", "encoder.17.", "decoder.1.", "decoder.22.")  # first and last layers
_NEAR = 8  # pixels each way over which the strength of edges is compared
_COLOUR_GAIN = 4.0  # colours in 0..1 start as latents in -2..2


def build_codec(recipe: Recipe, team: Team) -> Stage:
    """The stage `codec` at its beginning."""
    with torch.random.fork_rng():
        torch.manual_seed(recipe.codec.seed)
        codec = _plain_start(TAEHV(recipe.codec.codec))
    return _stage("codec", recipe, recipe.codec, codec, team, "")


def build_decoder(recipe: Recipe, team: Team, codec: TAEHV) -> Stage:
    """The stage `decoder` at its beginning: the decoder of this codec is trained on."""
    codec.encoder.requires_grad_(False)
    return _stage("decoder", recipe, recipe.decoder, codec, team, sampled(codec.state_dict()))


def _stage(name: str, recipe: Recipe, own: CodecRecipe, codec: TAEHV, team: Team, start: str) -> Stage:
    role = make_role(codec, recipe, team)
    through = torch.compile(partial(_through, codec), dynamic=False)

    def losses(stage: Stage, batch: Batch, dice: Dice) -> Losses:
        return stage.roles["codec"](codec_loss, batch, own, dice, through)

    return Stage(
        name=name,
        recipe=recipe,
        own=own,
        team=team,
        roles={"codec": role},
        optimizers={"codec": make_optimizer(recipe.optimizer, role, own, own.lr, _OUTER)},
        learner="codec",
        updates=(Update(role="codec", losses=losses),),
        fixed={"network": json.dumps(dataclasses.asdict(codec.config)), "start": start},
        write=_write,
        measure=lambda stage: measure(stage.roles["codec"].network, own),
    )


def _write(_: Stage, weights: Mapping[str, Tensor], path: Path, steps: int) -> None:
    tensors = {name.removeprefix("network."): tensor.contiguous() for name, tensor in weights.items()}
    save_file(tensors, path, metadata={"family": "taehv", "steps": str(steps)})


@torch.no_grad()
def measure(codec: TAEHV, recipe: CodecRecipe, clips: int = 8) -> dict[str, float]:
    """Figures on held-out identities: PSNR over the picture and in the face box, sharpness there, latent statistics."""
    rng = np.random.default_rng(5)
    values = avatars.stack_identities([avatars.identity(i, "eval") for i in range(clips)])
    controls = lively_controls(rng, clips, 9)
    truth = avatars.render(values, controls, recipe.size).to(next(codec.parameters()))
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


def codec_loss(_: TrainedModel, batch: Batch, own: CodecRecipe, dice: Dice, through: Callable) -> Losses:
    """The losses of clips encoded and decoded by the codec, with noise added to their latents."""
    pixels = batch.truth_BFCHW
    _, T, _, H, W = pixels.shape
    strength = own.noise * min(1.0, dice.step / own.noise_ramp)
    noise = strength * dice.normal(T // 4, 16, H // 8, W // 8).flatten(0, 1).to(pixels)
    latents, output = (part.float() for part in through(pixels, noise))
    loss = picture_loss(own, output, pixels, batch.weight_BF1HW) + own.pull * latents.square().mean()
    return {"loss": loss}


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
