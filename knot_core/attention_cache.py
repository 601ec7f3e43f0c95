"""The protocol of a cache that passes of the network attend to, and the caches that keep nothing between passes.

Shapes: B batch, L tokens of the pass, S slots, N heads, K head dim.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

Attended = tuple[Tensor, Tensor, Tensor | None]  # keys and values [B, S, N, K]; which a row sees [B, S], None: all


@dataclass(frozen=True, eq=False)
class AttendedApart:
    """Tokens that lie side by side in a pass and attend to different keys: the first `lengths[0]` to `parts[0]`."""

    lengths: tuple[int, ...]
    parts: tuple[Attended, ...]


class AttentionCache(Protocol):
    """The keys and values that passes attend to. Keys arrive rotated to their positions."""

    def extend(self, layer: int, k_BLNK: Tensor, v_BLNK: Tensor) -> Attended | AttendedApart:
        """Put a pass's keys and values into their slots. Returns what the pass attends to, its own included."""

    def commit(self, num_frames: int) -> None:
        """Keep the first `num_frames` latent frames of the last pass: from now on passes attend to them, too."""


class NoCache:
    """A pass that attends to itself only."""

    def extend(self, layer: int, k_BLNK: Tensor, v_BLNK: Tensor) -> Attended:  # noqa: ARG002
        return k_BLNK, v_BLNK, None

    def commit(self, num_frames: int) -> None:  # noqa: ARG002
        raise AssertionError("nothing to commit into")


class SideBySide:
    """Several caches as one `AttentionCache`, for a pass over the tokens of several streams, one stream's behind the
    other's. Nothing is copied: each extends its own cache and attends to it.
    """

    def __init__(self, caches: "Sequence[AttentionCache]", lengths: Sequence[int]) -> None:
        """`lengths`: the tokens of each."""
        self._caches, self._lengths = caches, tuple(lengths)

    def extend(self, layer: int, k_BLNK: Tensor, v_BLNK: Tensor) -> AttendedApart:
        keys, values = (x.split(self._lengths, dim=1) for x in (k_BLNK, v_BLNK))
        parts = (cache.extend(layer, *kv) for cache, *kv in zip(self._caches, keys, values, strict=True))
        return AttendedApart(self._lengths, tuple(parts))

    def commit(self, num_frames: int) -> None:  # noqa: ARG002
        raise AssertionError("each stream commits into its own cache")


class CapturingCache(NoCache):
    """One pass that attends to itself only; `commit` puts its keys and values into `layers`: the anchor's."""

    def __init__(self) -> None:
        self.layers: list[tuple[Tensor, Tensor]] = []
        self._passed: dict[int, tuple[Tensor, Tensor]] = {}

    def extend(self, layer: int, k_BLNK: Tensor, v_BLNK: Tensor) -> Attended:
        self._passed[layer] = (k_BLNK, v_BLNK)
        return super().extend(layer, k_BLNK, v_BLNK)

    def commit(self, num_frames: int) -> None:  # noqa: ARG002 - all of them
        self.layers, self._passed = [self._passed[layer] for layer in range(len(self._passed))], {}
