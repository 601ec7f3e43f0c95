"""A LoRA that teaches a network the knot and the anchor, for few-step students that were trained without them.

The network's own weights stay as they are. PEFT's layers beside the projections of self-attention and feed-forward
learn by the student's own steps (regression.py), with the settings of a full stream. The file that comes out is read by
`--lora` and by ComfyUI's loaders.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from knot_core.config import takes_controls
from knot_core.errors import SettingsError
from knot_core.wan.checkpoint import Checkpoint, open_checkpoint
from knot_core.wan.network import WanNetwork
from knot_core.wan.network_building import build_network

from ..parallel import Team
from ..recipes import Recipe, find_recipe
from .judges import NOBODY
from .optimizers import make_optimizer
from .regression_stage import regression_update
from .stage import Stage, fixed_by, make_role
from .stages import draw_sample

# No cross-attention: clips have no prompts, and what it knows of prompts must not be unlearnt.
TARGETS = ("self_attn.q", "self_attn.k", "self_attn.v", "self_attn.o", "ffn.0", "ffn.2")
NAME = "knot-lora"
_ADAPTER = ".default"  # what PEFT calls a first adapter in the names of its weights


def build_knot_lora(recipe: Recipe, team: Team, start_from: Path) -> Stage:
    """The stage at its beginning: low-rank layers beside the network of this file.

    Every `save_every` steps, and at the end, it writes `knot-lora-STEP.safetensors`.

    Raises: SettingsError where PEFT is missing, or for weights that this training cannot stream.
    """
    if recipe.network != find_recipe(recipe.name).network:
        raise SettingsError(f"got network for {NAME}, whose network is that of the weights; leave it out")
    checkpoint, own = open_checkpoint(start_from), recipe.knot_lora
    _require_trainable(checkpoint)
    recipe = replace(recipe, network=checkpoint.config)
    network = build_network(checkpoint).train()
    add_lora(network, own.rank, own.alpha, own.seed)
    network.gradient_checkpointing = recipe.recompute
    average, student = make_role(deepcopy(network), recipe, team, learns=False), make_role(network, recipe, team)
    return Stage(
        name=NAME,
        recipe=recipe,
        own=own,
        team=team,
        roles={"student": student, "average": average},
        optimizers={"student": make_optimizer("adamw", student, own, own.lr)},
        learner="student",
        updates=(regression_update(own, NOBODY),),
        fixed=fixed_by(recipe.network, recipe, {"student": checkpoint.tensors}) | {"rank": f"{own.rank} {own.alpha}"},
        write=_write,
        sample=draw_sample,
        is_saved=lambda name: ".lora_" in name,
        numbered=True,
    )


def lora_weights(network: WanNetwork) -> dict[str, nn.Parameter]:
    """The trained weights, by PEFT's names."""
    return {name: weight for name, weight in network.named_parameters() if weight.requires_grad}


def add_lora(network: WanNetwork, rank: int, alpha: float, seed: int) -> None:
    """Put PEFT's layers into the network, which computes what it did until they are trained; nothing else learns."""
    peft = _peft()
    config = peft.LoraConfig(r=rank, lora_alpha=alpha, target_modules=list(TARGETS))
    network.requires_grad_(False)
    with torch.random.fork_rng(devices=[]):  # PEFT draws the first factors from torch's own state
        torch.manual_seed(seed)
        peft.inject_adapter_in_model(config, network)


def save_lora(path: Path, weights: Mapping[str, Tensor], recipe: Recipe, steps: int) -> None:
    """A file under ComfyUI's names, with alpha beside each pair, in float32."""
    tensors = {}
    for name, weight in weights.items():
        module = name.partition(".lora_")[0]
        tensors[f"diffusion_model.{name.replace(_ADAPTER, '')}"] = weight.detach().cpu().contiguous()
        tensors[f"diffusion_model.{module}.alpha"] = torch.tensor(recipe.knot_lora.alpha)
    metadata = {"made_by": NAME, "steps": str(steps), "settings": json.dumps(recipe.stream.to_dict())}
    save_file(tensors, path.with_suffix(".part"), metadata=metadata)
    path.with_suffix(".part").replace(path)


def _write(stage: Stage, weights: Mapping[str, Tensor], path: Path, steps: int) -> None:
    named = {name.removeprefix("network."): weight for name, weight in weights.items()}
    save_lora(path, named, stage.recipe, steps)


def _require_trainable(checkpoint: Checkpoint) -> None:
    """A driving that determines each frame is needed: of what a prompt leaves open the regression learns the mean."""
    config = checkpoint.config
    shown = config.layout == "inpaint36" and config.unknown_frames == "zeros" and not config.known_in_x
    if not shown or not takes_controls(config.adapter):
        raise SettingsError(
            f"{checkpoint.path} is {checkpoint.preset.title} with layout {config.layout}, and this training regresses "
            "what the driving determines, with networks of layout inpaint36 that are driven as knot-tiny is; give "
            "weights that the stages student, variants, teacher, causal or distill made"
        )


def _peft() -> ModuleType:
    try:
        import peft
    except ImportError as problem:
        raise SettingsError(f"{NAME} needs PEFT, which is not installed; run pip install peft") from problem
    return peft
