"""A LoRA that teaches a network the knot and the anchor, for few-step students that were trained without them.

The network's own weights stay as they are. PEFT's layers beside the projections of self-attention and feed-forward
learn by the student's own steps (rollout.py), with the settings of a full stream. The file that comes out is read by
`--lora` and by ComfyUI's loaders.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from knot_core.config import takes_controls
from knot_core.errors import SettingsError
from knot_core.wan.checkpoint import Checkpoint, build_network, open_checkpoint
from knot_core.wan.model import WanNetwork

from ..data.clips import Clips
from .rollout import StudentRecipe
from .student import require_same, step_losses
from .training_state import cosine, load_checkpoint, log_line, save_checkpoint

# No cross-attention: clips have no prompts, and what it knows of prompts must not be unlearnt.
TARGETS = ("self_attn.q", "self_attn.k", "self_attn.v", "self_attn.o", "ffn.0", "ffn.2")
NAME = "knot-lora"
_OF_OTHERS = ("network", "muon_lr", "adversarial")  # fields of the recipe that a LoRA has no use for
_ADAPTER = ".default"  # what PEFT calls a first adapter in the names of its weights


@dataclass(frozen=True, kw_only=True)
class KnotLoraRecipe(StudentRecipe):
    """A short training of low-rank layers: streams from the first step on. The network is the file's."""

    rank: int = 16
    alpha: float = 16.0  # the layers' product counts alpha / rank times
    steps: int = 200
    warmup: int = 10
    lr: float = 2e-3
    alone_last: float = 0.2
    turn: tuple[float, float] = (0.0, 0.01)
    seed: int = 11  # not the dice that the weights were trained with

    def __post_init__(self) -> None:
        for name in _OF_OTHERS:
            if getattr(self, name) != getattr(StudentRecipe, name):
                raise SettingsError(f"got {name} for {NAME}, which has no use for it; leave it out")
        if self.rank < 1:
            raise SettingsError(f"rank is {self.rank}; it must be at least 1")


def train_knot_lora(
    recipe: KnotLoraRecipe, clips: Clips, stills: Clips | None, folder: Path, start_from: Path
) -> WanNetwork:
    """Train the layers, or go on from the folder's checkpoint; returns the network with them, averaged over steps.

    Every `save_every` steps, and at the end, it writes `knot-lora-STEP.safetensors` in `folder`.

    Raises: SettingsError where PEFT is missing, or for weights that this training cannot stream.
    """
    network, of = _begin(recipe, start_from)
    layers, path, began = _Layers(network, recipe.lr), folder / f"{NAME}.ckpt", time.time()
    state = load_checkpoint(path)
    if state is not None:
        require_same(path, state["of"], of)
        layers.load_state_dict(state)
    shared = {name: getattr(recipe, name) for name in StudentRecipe.__dataclass_fields__}
    streaming = StudentRecipe(**shared | {"network": network.config})
    for step in range(0 if state is None else state["step"], recipe.steps):
        rng = torch.Generator().manual_seed(recipe.seed * 1_000_003 + step)
        losses = step_losses(network, streaming, clips, clips if stills is None else stills, step, rng, None)
        losses["loss"].backward()
        norm = layers.step(cosine(step, recipe.steps, recipe.warmup, floor=0.02))
        done = step + 1
        layers.follow(min(recipe.decay, done / (done + 9)))
        if done % 10 == 0:
            figures = {name: value.item() for name, value in losses.items()}
            log_line(folder / f"{NAME}.log", step=done, **figures, norm=norm.item(), seconds=time.time() - began)
        if done % recipe.save_every == 0 or done == recipe.steps:
            save_checkpoint(path, layers.state_dict() | {"step": done, "of": of})
            save_lora(folder / f"{NAME}-{done:04d}.safetensors", layers.average, recipe, done)
    layers.fill(layers.average)
    return network


class _Layers:
    """A network's low-rank layers while they are trained: their weights, the average of these over steps, AdamW."""

    def __init__(self, network: WanNetwork, lr: float) -> None:
        self._weights, self._lr = lora_weights(network), lr
        self.average = {name: weight.detach().clone() for name, weight in self._weights.items()}
        self._optimizer = torch.optim.AdamW(self._weights.values(), lr=lr, betas=(0.9, 0.98), weight_decay=0.0)

    def step(self, factor: float) -> Tensor:
        """Clip, update with the learning rate times `factor`, clear the gradients; returns the gradient's norm."""
        norm = nn.utils.clip_grad_norm_(self._weights.values(), 1.0)
        self._optimizer.param_groups[0]["lr"] = self._lr * factor
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        return norm

    @torch.no_grad()
    def follow(self, decay: float) -> None:
        """Exponential moving average."""
        for name, slow in self.average.items():
            slow.lerp_(self._weights[name], 1 - decay)

    @torch.no_grad()
    def fill(self, values: Mapping[str, Tensor]) -> None:
        """Give the layers these weights."""
        for name, weight in self._weights.items():
            weight.copy_(values[name])

    def state_dict(self) -> dict:
        weights = {name: weight.detach() for name, weight in self._weights.items()}
        return {"weights": weights, "average": self.average, "optimizer": self._optimizer.state_dict()}

    def load_state_dict(self, state: dict) -> None:
        self.fill(state["weights"])
        for name, slow in self.average.items():
            slow.copy_(state["average"][name])
        self._optimizer.load_state_dict(state["optimizer"])


def lora_weights(network: WanNetwork) -> dict[str, nn.Parameter]:
    """What is trained, by PEFT's names."""
    return {name: weight for name, weight in network.named_parameters() if weight.requires_grad}


def add_lora(network: WanNetwork, rank: int, alpha: float, seed: int) -> None:
    """Put PEFT's layers into the network, which computes what it did until they are trained; nothing else learns."""
    peft = _peft()
    config = peft.LoraConfig(r=rank, lora_alpha=alpha, target_modules=list(TARGETS))
    network.requires_grad_(False)
    with torch.random.fork_rng(devices=[]):  # PEFT draws the first factors from torch's own state
        torch.manual_seed(seed)
        peft.inject_adapter_in_model(config, network)


def save_lora(path: Path, weights: Mapping[str, Tensor], recipe: KnotLoraRecipe, steps: int) -> None:
    """A file under ComfyUI's names, with alpha beside each pair, in float32."""
    tensors = {}
    for name, weight in weights.items():
        module = name.partition(".lora_")[0]
        tensors[f"diffusion_model.{name.replace(_ADAPTER, '')}"] = weight.detach().cpu().contiguous()
        tensors[f"diffusion_model.{module}.alpha"] = torch.tensor(recipe.alpha)
    metadata = {"made_by": NAME, "steps": str(steps), "settings": json.dumps(recipe.settings.to_dict())}
    save_file(tensors, path.with_suffix(".part"), metadata=metadata)
    path.with_suffix(".part").replace(path)


def _begin(recipe: KnotLoraRecipe, start_from: Path) -> tuple[WanNetwork, dict[str, str]]:
    """The file's network with new layers, and what this training cannot change on its way."""
    checkpoint = open_checkpoint(start_from)
    _require_trainable(checkpoint)
    network = build_network(checkpoint).train()
    add_lora(network, recipe.rank, recipe.alpha, recipe.seed)
    of = {
        "start": hashlib.sha256(start_from.read_bytes()).hexdigest(),
        "settings": json.dumps(recipe.settings.to_dict()),
        "rank": f"{recipe.rank} {recipe.alpha}",
    }
    return network.to(recipe.device), of


def _require_trainable(checkpoint: Checkpoint) -> None:
    config = checkpoint.config
    shown = config.layout == "inpaint36" and config.unknown_frames == "zeros" and not config.known_in_x
    if not shown or not takes_controls(config.adapter):
        raise SettingsError(
            f"{checkpoint.path} is {checkpoint.preset.title} with layout {config.layout}, and this training rolls out "
            "networks of layout inpaint36 that are driven as knot-tiny is; give weights that the stages student, "
            "variants, teacher, causal or distill made"
        )


def _peft() -> ModuleType:
    try:
        import peft
    except ImportError as problem:
        raise SettingsError(f"{NAME} needs PEFT, which is not installed; run pip install peft") from problem
    return peft
