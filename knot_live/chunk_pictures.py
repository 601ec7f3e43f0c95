"""A chunk's pictures, which may still be on their way from the decoder.

Shapes: T pixel frames, H W height and width.
"""

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from torch import Tensor


class Pictures:
    """uint8 [T, H, W, 3], of which so many are known to come; a slice is a view. `np.asarray` waits for all of them."""

    def __init__(self, source: Iterable[Tensor], count: int) -> None:
        """`source` gives them in pieces [T, H, W, 3], and again as often as it is iterated over."""
        self._source, self._first, self._stop = source, 0, count

    def __len__(self) -> int:
        return self._stop - self._first

    def __getitem__(self, part: slice) -> "Pictures":
        first, stop, step = part.indices(len(self))
        assert step == 1, "pictures are shown one after the other"
        view = Pictures(self._source, 0)
        view._first, view._stop = self._first + first, self._first + max(first, stop)
        return view

    def pieces(self) -> Iterator[np.ndarray]:
        """[T, H, W, 3] as they come. Fewer than were known to come where they were cancelled."""
        at = 0
        for frames in self._source:
            first, stop = max(self._first - at, 0), min(self._stop - at, len(frames))
            if first < stop:
                yield frames[first:stop].numpy()
            at += len(frames)
            if at >= self._stop:
                return

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        pieces = list(self.pieces())
        whole = np.concatenate(pieces) if pieces else np.zeros((0, 0, 0, 3), np.uint8)
        return whole if dtype is None else whole.astype(dtype)
