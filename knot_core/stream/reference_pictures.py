"""The reference picture in a decoder's hands, for codecs that copy pixels from it.

A chunk is decoded with the picture of the anchor that it was drawn under. Where that is not the picture of the chunk
before, what both give is cross-faded over the chunk, unless the stream began anew between them.

Shapes: B batch (of one), F latent frames, T pixel frames, C channels, H W size (of latents, or of pictures).
"""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..geometry import TEMPORAL
from .decode import Decoded, Decoding, as_met, to_pictures
from .stream_model import DecoderMemory, StreamCodec, wants_reference

MOST_DETAIL = 4  # pixels of a picture, each way, to one of what the encoder sees


def has_detail(picture_HWC: Tensor, size: tuple[int, int]) -> bool:
    """Whether it is a picture of that height and width, or a whole number of times as large, up to `MOST_DETAIL`."""
    height, width = size
    return any(tuple(picture_HWC.shape) == (n * height, n * width, 3) for n in range(1, MOST_DETAIL + 1))


@dataclass(frozen=True, kw_only=True, eq=False)
class ShownReference:
    """A reference as a picture, and its latents."""

    picture_HWC: Tensor  # uint8
    latents_BFCHW: Tensor  # one latent frame
    landmarks_L2: Tensor | None = None  # where they lie, in sides of the picture, as far as that was found

    def placed(self, there: Callable[[Tensor], Tensor]) -> "ShownReference":
        """The same, of the tensors that `there` gives for its own."""
        return ShownReference(**{name: None if part is None else there(part) for name, part in vars(self).items()})

    def is_like(self, other: "ShownReference") -> bool:
        """Whether a decoder would be shown the same."""
        if self.picture_HWC is other.picture_HWC and self.latents_BFCHW is other.latents_BFCHW:
            return True
        mine, theirs = (_without_nan(one) for one in (self, other))
        return mine.keys() == theirs.keys() and all(
            torch.equal(part, theirs[name].to(part.device)) for name, part in mine.items()
        )


def _without_nan(one: ShownReference) -> dict[str, Tensor]:
    """Its tensors by name, comparable."""
    return {name: part.nan_to_num(-1.0) if part.is_floating_point() else part
            for name, part in vars(one).items() if part is not None}  # fmt: skip


class References:
    """Reference pictures as a codec has read them: the last two, each once."""

    def __init__(self, codec: StreamCodec) -> None:
        self.codec, self.are_wanted = codec, wants_reference(codec)
        self._read: tuple[tuple[ShownReference, Any], ...] = ()

    def read(self, shown: ShownReference | None) -> tuple[Any, ...]:
        """The further arguments of the codec's `decode`: none, or what it has read of the picture."""
        if not self.are_wanted:
            return ()
        assert shown is not None, "a stream of this codec has an anchor with a picture"
        for known, read in self._read:
            if known.is_like(shown):
                return (read,)
        latents = shown.latents_BFCHW[:, 0]
        picture = shown.picture_HWC.movedim(-1, 0)[None].to(latents.device, latents.dtype) / 255
        found = () if shown.landmarks_L2 is None else (shown.landmarks_L2,)
        read = self.codec.read_reference(picture, latents, *found)
        self._read = (*self._read[-1:], (shown, read))
        return (read,)


class ChunkDecoding:
    """The decoding of one chunk, at once or latent frame by latent frame; `memory` is the decoder's so far.

    `shown`: what the chunk before was decoded with, and what this one is. `num_frames`: latent frames of the chunk.
    `is_late_beginning`: see `decode`.
    """

    def __init__(
        self,
        references: References,
        memory: DecoderMemory | None,
        shown: tuple[ShownReference | None, ShownReference | None],
        num_frames: int,
        *,
        is_late_beginning: bool = False,
    ) -> None:
        before, now = shown
        fades = before is not None and now is not None and memory is not None and not before.is_like(now)
        self.memory, self._references, self._shown = memory, references, now
        self._gone, self._gone_memory = (before, memory) if fades else (None, None)
        self._done, self._num_frames, self._is_late = 0, num_frames, is_late_beginning

    def __call__(self, latents_BFCHW: Tensor) -> Tensor:
        """Pictures uint8 [T, H, W, 3] of the next latent frames, on the CPU, or on their way there from CUDA."""
        codec, read = self._references.codec, self._references.read
        again = self._is_late and self.memory is None
        met_BFCHW = as_met(latents_BFCHW, again)
        pixels, self.memory = codec.decode(met_BFCHW, self.memory, *read(self._shown))
        if self._gone is not None:
            gone, self._gone_memory = codec.decode(met_BFCHW, self._gone_memory, *read(self._gone))
            pixels = torch.lerp(gone, pixels, self._ramp(latents_BFCHW.shape[1]).to(pixels))
        self._done += latents_BFCHW.shape[1]
        return to_pictures(pixels[0], again)

    def piece(self, latents_BFCHW: Tensor) -> "Decoding | DecodedAlone":
        """All of the chunk's latents, to be decoded: beside other streams' where the codec needs no picture."""
        if self._references.are_wanted:
            return DecodedAlone(self, latents_BFCHW)
        return Decoding(codec=self._references.codec, latents_BFCHW=latents_BFCHW, memory=self.memory,
                        is_late_beginning=self._is_late)  # fmt: skip

    def _ramp(self, count: int) -> Tensor:
        """How much each pixel frame shows of the new reference, [T, 1, 1, 1]: it rises evenly to 1."""
        numbers = torch.arange(TEMPORAL * self._done + 1, TEMPORAL * (self._done + count) + 1)
        return (numbers / (TEMPORAL * self._num_frames))[:, None, None, None]


@dataclass(frozen=True, eq=False)
class DecodedAlone:
    """A chunk's latents [1, F, C, H, W], to be decoded with the stream's own reference: joined with no other's."""

    decoding: ChunkDecoding
    latents_BFCHW: Tensor

    @property
    def joins(self) -> Hashable:
        return DecodedAlone, id(self)

    def compute(self) -> Decoded:
        """Pictures uint8 [T, H, W, 3] on the CPU, and the decoder's memory for the next call."""
        return self.decoding(self.latents_BFCHW), self.decoding.memory

    def compute_with(self, others: "Sequence[DecodedAlone]") -> list[Decoded]:
        """The same for each of several chunks."""
        return [part.compute() for part in (self, *others)]
