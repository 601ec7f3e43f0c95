"""Channel layouts: the contents of a network's input channels, and how known frames (knot, reference) enter.

Shapes: B batch, F latent frames, M known latent frames, C channels, H W latent size.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..config import LAYOUT_CHANNELS, NetworkConfig
from ..errors import CheckpointError

NUM_MASK_CHANNELS = 4  # Wan-I2V: one per pixel frame of the latent frame


@dataclass(frozen=True)
class Layout(ABC):
    """The channel layout of a network's input: pure functions of latents.

    `known` are clean latents of the first frames, [B, M, C, H, W], or None. Where known frames are pinned into x
    itself, they are also the result: such a network's prediction for a frame that it was given was never trained, and
    fusion then mixes the knot with itself.
    """

    name: str

    @property
    def in_channels(self) -> int:
        """The number of channels of the network's input."""
        return LAYOUT_CHANNELS[self.name]

    @abstractmethod
    def pin(self, x_BFCHW: Tensor, known: Tensor | None) -> Tensor:
        """The latents to denoise, [B, F, C, H, W], with the known frames pinned where the layout requires it."""

    @abstractmethod
    def frame_sigmas(self, sigma_BF: Tensor, num_known: int) -> Tensor:
        """The noise level of each frame, [B, F], where the first `num_known` frames are known."""

    @abstractmethod
    def channels(
        self,
        x_BFCHW: Tensor,
        known: Tensor | None,
        reference_B1CHW: Tensor | None = None,
        unknown_BFCHW: Tensor | None = None,
    ) -> Tensor:
        """The network's input, [B, F, in_channels, H, W].

        `reference_B1CHW` is concatenated to every frame where the layout has channels for it; `unknown_BFCHW` replaces
        zeros as the condition of frames that are not known.
        """

    def known_at_commit(self, known: Tensor | None, *, from_reference: bool) -> Tensor | None:  # noqa: ARG002
        """The frames that a chunk's commit pass treats as known, [B, M, C, H, W], or None.

        `from_reference`: the chunk begins a stream whose first frame is the reference.
        """
        return None


@dataclass(frozen=True)
class Inpaint36(Layout):
    """Wan-I2V: noise16, mask4 (1 = known), cond16. Known frames stay noisy and stand in the cond channels.

    `known_in_x`: and clean in x as well (InfiniteTalk). `stays_known`: the picture that begins a stream is known to its
    commit pass, too.
    """

    known_in_x: bool = False
    stays_known: bool = False

    def pin(self, x_BFCHW: Tensor, known: Tensor | None) -> Tensor:
        return _pinned(x_BFCHW, known) if self.known_in_x else x_BFCHW

    def frame_sigmas(self, sigma_BF: Tensor, num_known: int) -> Tensor:  # noqa: ARG002
        return sigma_BF

    def channels(
        self,
        x_BFCHW: Tensor,
        known: Tensor | None,
        reference_B1CHW: Tensor | None = None,  # noqa: ARG002
        unknown_BFCHW: Tensor | None = None,
    ) -> Tensor:
        batch, num_frames, num_channels, *size = x_BFCHW.shape
        condition = x_BFCHW.new_zeros(batch, num_frames, NUM_MASK_CHANNELS + num_channels, *size)
        if unknown_BFCHW is not None:
            condition[:, :, NUM_MASK_CHANNELS:] = unknown_BFCHW
        if known is not None:
            num_known = known.shape[1]
            condition[:, :num_known, :NUM_MASK_CHANNELS] = 1
            condition[:, :num_known, NUM_MASK_CHANNELS:] = known
        return torch.cat([x_BFCHW, condition], dim=2)

    def known_at_commit(self, known: Tensor | None, *, from_reference: bool) -> Tensor | None:
        return known if from_reference and self.stays_known else None


def _pinned(x_BFCHW: Tensor, known: Tensor | None) -> Tensor:
    return x_BFCHW if known is None else torch.cat([known, x_BFCHW[:, known.shape[1] :]], dim=1)


class Ref33(Layout):
    """LiveTalk, OmniAvatar: noise16, reference16, mask1 (0 = known). Known frames stand in x itself, at any timestep.

    The reference stands beside every frame, whatever is known. LiveTalk begins its streams with the reference as frame
    0, and tells its commit pass so; later frames it commits as unknown.
    """

    def pin(self, x_BFCHW: Tensor, known: Tensor | None) -> Tensor:
        return _pinned(x_BFCHW, known)

    def frame_sigmas(self, sigma_BF: Tensor, num_known: int) -> Tensor:  # noqa: ARG002
        return sigma_BF

    def channels(
        self,
        x_BFCHW: Tensor,
        known: Tensor | None,
        reference_B1CHW: Tensor | None = None,
        unknown_BFCHW: Tensor | None = None,  # noqa: ARG002
    ) -> Tensor:
        assert reference_B1CHW is not None, "this layout shows the reference beside every frame"
        mask = torch.ones_like(x_BFCHW[:, :, :1])
        if known is not None:
            mask[:, : known.shape[1]] = 0
        return torch.cat([x_BFCHW, reference_B1CHW.expand_as(x_BFCHW), mask], dim=2)

    def known_at_commit(self, known: Tensor | None, *, from_reference: bool) -> Tensor | None:
        return known if from_reference else None


class T2V16(Layout):
    """Wan-T2V (Self-Forcing and its family): noise16. Known frames stand in x itself, clean, at timestep 0."""

    def pin(self, x_BFCHW: Tensor, known: Tensor | None) -> Tensor:
        return _pinned(x_BFCHW, known)

    def frame_sigmas(self, sigma_BF: Tensor, num_known: int) -> Tensor:
        return torch.cat([torch.zeros_like(sigma_BF[:, :num_known]), sigma_BF[:, num_known:]], dim=1)

    def channels(
        self,
        x_BFCHW: Tensor,
        known: Tensor | None,  # noqa: ARG002
        reference_B1CHW: Tensor | None = None,  # noqa: ARG002
        unknown_BFCHW: Tensor | None = None,  # noqa: ARG002
    ) -> Tensor:
        return x_BFCHW


_LAYOUTS: Mapping[str, Layout] = {
    layout.name: layout for layout in (Inpaint36("inpaint36"), Ref33("ref33"), T2V16("t2v16"))
}


def get_layout(name: str) -> Layout:
    """The layout with that name.

    Raises:
        CheckpointError: no layout with that name can stream.
    """
    if name not in _LAYOUTS:
        raise CheckpointError(f"channel layout {name!r} cannot stream yet; these can: {', '.join(_LAYOUTS)}")
    return _LAYOUTS[name]


def layout_of(config: NetworkConfig) -> Layout:
    """The layout of a network, with its family's variations.

    Raises:
        CheckpointError: no layout with that name can stream.
    """
    layout = get_layout(config.layout)
    if isinstance(layout, Inpaint36):
        return replace(layout, known_in_x=config.known_in_x, stays_known=config.unknown_frames == "grey")
    return layout
