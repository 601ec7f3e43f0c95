"""Classifier-free guidance: the same frames under other conditions too, each with a cache of its own (Ho and Salimans,
arXiv 2207.12598).

velocity = sum_i weight_i * velocity_i, the weights together 1. The branches' caches are further layers of one cache.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..attention_cache import Attended, AttendedApart, AttentionCache
from ..config import StreamSettings
from ..errors import SettingsError
from ..wan.branches import Branch, branches
from ..wan.forward import CrossContext
from .solvers import check_sampler
from .stream_model import StreamModel


@dataclass(frozen=True, eq=False)
class Guide:
    """A branch with its prompt, ready."""

    branch: Branch
    context: CrossContext


@dataclass(frozen=True, eq=False)
class OfBranch:
    """The layers of one branch, as an `AttentionCache`; the whole cache commits them together."""

    cache: AttentionCache
    first_layer: int

    def extend(self, layer: int, k_BLNK: Tensor, v_BLNK: Tensor) -> Attended | AttendedApart:
        return self.cache.extend(self.first_layer + layer, k_BLNK, v_BLNK)

    def commit(self, num_frames: int) -> None:  # noqa: ARG002
        raise AssertionError("one branch is not committed without the others")


def check_steps(settings: StreamSettings, model: StreamModel) -> None:
    """SettingsError where a sampler cannot be had, or a family is asked for guidance that it was not trained for."""
    check_sampler(settings)
    preset = getattr(model, "preset", None)
    if len(branches(settings, model.config)) > 1 and not getattr(preset, "takes_guidance", True):
        raise SettingsError(
            f"text_guidance is {settings.text_guidance} and sound_guidance {settings.sound_guidance}, but "
            f"{preset.title} was distilled and takes no guidance; set both to 1"
        )


def mixed(velocities: Sequence[Tensor], guides: Sequence[Guide]) -> Tensor:
    """sum_i weight_i * velocity_i, all of shape [B, F, C, H, W]."""
    found = guides[0].branch.weight * velocities[0]
    for velocity, guide in zip(velocities[1:], guides[1:], strict=True):
        found = torch.add(found, velocity, alpha=guide.branch.weight)
    return found


def under(guide: Guide, text: CrossContext) -> Guide:
    """The same branch under another prompt, if it is not under the negative one."""
    return guide if guide.branch.negative else replace(guide, context=text)
