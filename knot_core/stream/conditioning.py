"""Conditioning beside reference and driving: the prompt, now and over time, and the reference's CLIP tokens.

Shapes: B batch (of one), T text or image tokens, D text dim, E image dim.
"""

import hashlib
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from ..driving.prompts import PromptTimeline
from ..errors import SettingsError
from .stream_model import StreamModel, latent_dtype


@dataclass(frozen=True, kw_only=True, eq=False)
class TimedPrompts:
    """Prompts that change while the stream runs."""

    timeline: PromptTimeline
    texts_BTD: tuple[Tensor, ...] | None  # each of them encoded, all of one shape; None: they are for show


@dataclass(frozen=True, kw_only=True, eq=False)
class Conditioning:
    """Immutable: never write into its tensors. Equal and hashed by content."""

    text_BTD: Tensor  # the prompt; one zero token where there is none
    image_BTE: Tensor | None = None  # CLIP tokens of the reference, for I2V networks
    negative_BTD: Tensor | None = None  # the prompt that guidance leads away from; None: no words
    prompts: TimedPrompts | None = None

    def __repr__(self) -> str:
        timed = "" if self.prompts is None else f", {len(self.prompts.timeline.prompts)} prompts over time"
        return f"<{type(self).__name__}: {self.text_BTD.shape[1]} text tokens{timed}>"

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the content."""
        texts = () if self.prompts is None else self.prompts.texts_BTD or ()
        timeline = None if self.prompts is None else self.prompts.timeline
        return digest_of(repr(timeline), self.text_BTD, self.image_BTE, self.negative_BTD, *texts)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Conditioning) and self.digest == other.digest

    def __hash__(self) -> int:
        return hash(self.digest)

    def on(self, device: torch.device | str) -> "Conditioning":
        """The conditioning on a device; prompts over time are moved when they are due."""
        tensors = {name: value.to(device) for name, value in vars(self).items() if isinstance(value, Tensor)}
        return replace(self, **tensors)

    def with_text(self, model: StreamModel, text_BTD: Tensor) -> "Conditioning":
        """The same conditioning with another prompt [1, T, text_dim].

        Raises:
            SettingsError: the prompt's shape is not the model's.
        """
        if text_BTD.dim() != 3 or text_BTD.shape[0] != 1 or text_BTD.shape[2] != model.config.text_dim:
            raise SettingsError(
                f"the prompt has shape {tuple(text_BTD.shape)}, this model takes [1, tokens, {model.config.text_dim}]; "
                "encode it with the model's own text encoder"
            )
        return replace(self, text_BTD=text_BTD.to(model.device, latent_dtype(model), copy=True))


def digest_of(head: str, *tensors: Tensor | None) -> str:
    """SHA-256 of a text and of shapes and bytes."""
    digest = hashlib.sha256(head.encode())
    for tensor in tensors:
        if tensor is None:
            continue
        digest.update(f"{tuple(tensor.shape)}".encode())
        digest.update(tensor.cpu().numpy().tobytes())
    return digest.hexdigest()
