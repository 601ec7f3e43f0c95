"""Rotary positions over time, height and width: absolute, unbounded integers.

Shapes: B batch, F latent frames, L tokens, N heads, K head dim, P = K/2 rotated pairs.
RoPE is relative, so time may start anywhere. Angles are in float64: at position 3,000,000 a float32 angle would be
off by a tenth of a radian.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from einops import repeat
from torch import Tensor

from ..transfer import to_device

THETA = 10000.0

Positions = int | Sequence[int] | Tensor  # [F], or [B, F] where the streams of a batch differ


def axis_dims(head_dim: int) -> tuple[int, int, int]:
    """Channels of a head that turn with time, height and width (Wan: 128 -> 44, 42, 42)."""
    spatial = 2 * (head_dim // 6)
    return head_dim - 2 * spatial, spatial, spatial


@dataclass(frozen=True, eq=False)
class RopeTable:
    """exp(i * angle) of every token and rotated pair; broadcasts over heads."""

    turns_L1P: Tensor  # complex, [L, 1, P] or [B, L, 1, P]

    @property
    def head_dim(self) -> int:
        """The number of channels of a head: two for each rotated pair."""
        return 2 * self.turns_L1P.shape[-1]

    def first(self, num_tokens: int) -> "RopeTable":
        """The table of the first `num_tokens` tokens."""
        return RopeTable(self.turns_L1P[..., :num_tokens, :, :])


def _angles(positions: Positions, axis_dim: int) -> Tensor:
    """position / theta^(2j/axis_dim), float64 on the CPU (some accelerators have no float64)."""
    positions = torch.as_tensor(positions, dtype=torch.float64, device="cpu")
    exponents = torch.arange(0, axis_dim, 2, dtype=torch.float64) / axis_dim
    return positions[..., None] * THETA**-exponents


def _turns(angles: Tensor, device: torch.device | str, dtype: torch.dtype) -> Tensor:
    return to_device(torch.polar(torch.ones_like(angles), angles), device, dtype)


def rope_table(
    positions: Positions,
    grid: tuple[int, int],
    head_dim: int,
    *,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.complex64,
) -> RopeTable:
    """Rotations of the tokens of latent frames at `positions`, on a `grid` of tokens (rows, columns), frame by
    frame.
    """
    height, width = grid
    time_dim, height_dim, width_dim = axis_dims(head_dim)
    time = _angles(positions, time_dim)
    num_frames = time.shape[-2]
    rows = _angles(range(height), height_dim).expand(*time.shape[:-2], height, -1)
    columns = _angles(range(width), width_dim).expand(*time.shape[:-2], width, -1)
    angles = torch.cat(
        [
            repeat(time, "... f p -> ... (f h w) p", h=height, w=width),
            repeat(rows, "... h p -> ... (f h w) p", f=num_frames, w=width),
            repeat(columns, "... w p -> ... (f h w) p", f=num_frames, h=height),
        ],
        dim=-1,
    )
    return RopeTable(_turns(angles, device, dtype)[..., None, :])


def rotate(x_BLNK: Tensor, table: RopeTable) -> Tensor:
    """(x[2j] + i x[2j+1]) * exp(i * angle[j]), [B, L, N, K]: interleaved pairs, in the table's precision."""
    return _turn(x_BLNK, table.turns_L1P)


def rotate_time(x_BLNK: Tensor, position: Positions) -> Tensor:
    """Move keys [B, L, N, K] in time by `position` frames; [B] positions where streams differ.

    Rotations compose, so keys encoded at position 0, where time rotates nothing, become exactly those that encoding at
    `position` gives.
    """
    time_dim = axis_dims(x_BLNK.shape[-1])[0]
    dtype = torch.complex128 if x_BLNK.dtype == torch.float64 else torch.complex64
    turns = _turns(_angles(position, time_dim), x_BLNK.device, dtype)[..., None, None, :]
    moved = _turn(x_BLNK[..., :time_dim], turns)
    return torch.cat([moved.to(x_BLNK.dtype), x_BLNK[..., time_dim:]], dim=-1)


def _turn(x: Tensor, turns: Tensor) -> Tensor:
    pairs = x.to(turns.real.dtype).unflatten(-1, (-1, 2)).contiguous()
    return torch.view_as_real(torch.view_as_complex(pairs) * turns).flatten(-2)
