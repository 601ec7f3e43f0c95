"""The common part of all drivings: named tracks, a length, and the properties of the model that is driven.

Shapes: F latent frames, T signal entries of a latent frame, S values of an entry, P pixel frames.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Protocol, TypeVar

import numpy as np
from torch import Tensor

from .. import geometry
from ..config import Adapter
from ..errors import DrivingError
from ..geometry import TEMPORAL
from .tracks import Track, all_ready, last_end

Self = TypeVar("Self", bound="TrackedDriving")


class Drivable(Protocol):
    """The properties of a model that a driving needs; a `Model` has all of them."""

    @property
    def fps(self) -> int:
        """Pixel frames a second."""

    @property
    def adapter(self) -> Adapter | None:
        """How driving enters: its name, and the shape of a signal."""

    @property
    def timing(self) -> str:
        """Which sound a pixel frame hears: see `Preset.timing`."""


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class TrackedDriving(ABC):
    """A driving made of tracks. Equal and hashed by what they hold."""

    length: int | None = None  # pixel frames, where it is not that of the tracks
    chunks: tuple[int, int] | None = None  # where it ends with one: latent frames of a chunk's start, and of each

    @property
    @abstractmethod
    def tracks(self) -> Mapping[str, Track | None]:
        """The tracks by name; None: not given."""

    @abstractmethod
    def signal(self, first_latent: int, num_latents: int) -> Tensor:
        """float32 [F, T, S] of latent frames first_latent ..; any of them, also past the end."""

    @abstractmethod
    def pixel_signal(self, frames: np.ndarray) -> Tensor:
        """float32 [P, S] of those pixel frames."""

    @abstractmethod
    def require_controls(self, otherwise: str) -> None:
        """`DrivingError`, with these words, where it is not made of controls that can be shown, mixed or smoothed."""

    def for_adapter(self: Self, adapter: Adapter | None) -> Self:
        """The driving for a model with that adapter. `DrivingError` if nothing in it can drive such a model."""
        if self.given and adapter is None:
            raise DrivingError(
                f"got {' and '.join(self.given)}, but this model has no driving adapter: nothing but its prompt moves "
                "it; take Driving.none()"
            )
        return self

    def lasting(self: Self, num_pixel_frames: int) -> Self:
        """The same, cut off there, or carried on: speech falls silent and poses hold."""
        if num_pixel_frames < 1:
            raise DrivingError(f"a driving cannot last {num_pixel_frames} pixel frames; give it 1 or more")
        return replace(self, length=num_pixel_frames)

    def in_whole_chunks(self: Self, start: int, num_chunk_frames: int) -> Self:
        """The same, until the chunk ends in which it ends, of chunks of so many latent frames from `start` on."""
        return replace(self, chunks=(start, num_chunk_frames))

    def end_within(self, frame: int) -> int | None:
        """`num_pixel_frames`, having read as far as that pixel frame: a file's end turns out on the way."""
        if self.num_pixel_frames is None and self.num_ready_latents is not None:
            assert frame < TEMPORAL * self.num_ready_latents, "live sound ends when it is closed"
            self.pixel_signal(np.array([frame]))
        return self.num_pixel_frames

    def __repr__(self) -> str:
        length = self.num_pixel_frames
        lasts = f"{length} pixel frames"
        if length is None:
            lasts = "without end" if self.num_ready_latents is None else "as long as its sound"
        return f"<{type(self).__name__}: {' and '.join(self.given) or 'nothing given'}, {lasts}>"

    @property
    def given(self) -> tuple[str, ...]:
        """Names of the tracks that are given."""
        return tuple(name for name, track in self.tracks.items() if track is not None)

    @property
    def num_pixel_frames(self) -> int | None:
        """Until the longest track with an end has ended; None where no track has one, or sound still arrives."""
        length = last_end(*self.tracks.values()) if self.length is None else self.length
        return length if self.chunks is None or length is None else geometry.whole_chunks(*self.chunks, length)

    @property
    def num_latent_frames(self) -> int | None:
        """The fewest latent frames that cover it; None = endless."""
        length = self.num_pixel_frames
        return None if length is None else geometry.num_latent_frames(length)

    @property
    def num_ready_latents(self) -> int | None:
        """Latent frames whose signal can be had by now; None = all. Less only while live sound still arrives."""
        ready = all_ready(*self._waited_for())
        return None if ready is None else (ready + TEMPORAL - 1) // TEMPORAL

    def _waited_for(self) -> Iterable[Track | None]:
        """The tracks that must have a frame before its signal can be had."""
        return self.tracks.values()

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the content: the same on every machine."""
        found = hashlib.sha256(f"length {self.length} {self.chunks} ".encode())
        for name, track in self.tracks.items():
            content = b"" if track is None else track.content()
            found.update(f"{name} {len(content)} ".encode() + content)
        return found.hexdigest()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, TrackedDriving) and self.digest == other.digest

    def __hash__(self) -> int:
        return hash(self.digest)
