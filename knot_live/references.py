"""Pictures that a session may begin with: the bundled ones, and those that clients send. No path or URL is opened."""

import io
import secrets
import threading
import warnings
from collections import OrderedDict
from pathlib import Path
from typing import Any

from PIL import Image

from .engine import ASSETS, MediaError, fit_image, open_image

BUILT_IN, UPLOADED = "builtin:", "upload:"
FORMATS = ("PNG", "JPEG", "WEBP")


class References:
    """Pictures by name, each float32 [height, width, 3] in 0..1 of one size. Any thread may call."""

    def __init__(self, height: int, width: int, *, most_pixels: int, most_pictures: int) -> None:
        self._size, self._most_pixels, self._most_pictures = (height, width), most_pixels, most_pictures
        self.bundled: dict[str, Path] = {path.stem: path for path in sorted((ASSETS / "portraits").glob("*.png"))}
        self._uploaded: OrderedDict[str, Any] = OrderedDict()
        self._decoding, self._lock = threading.Lock(), threading.Lock()

    @property
    def names(self) -> list[str]:
        """The names that every client may use."""
        return [BUILT_IN + name for name in self.bundled]

    def add(self, data: bytes) -> str:
        """A picture's name from now on: nobody else can guess it.

        Raises:
            MediaError: it is no picture of `FORMATS`, is damaged, or has too many pixels.
        """
        self._check(data)
        with self._decoding:  # one at a time: each takes its pixels twelvefold
            picture = fit_image(open_image(io.BytesIO(data)), *self._size)
        name = UPLOADED + secrets.token_urlsafe(16)
        self.put(name, picture)
        return name

    def put(self, name: str, picture: Any) -> None:
        """A picture of the right size, float32 [height, width, 3], by a name that it has already."""
        with self._lock:
            self._uploaded[name] = picture
            while len(self._uploaded) > self._most_pictures:
                self._uploaded.popitem(last=False)

    def get(self, name: str) -> Any:
        """The picture of that name.

        Raises:
            MediaError: there is none.
        """
        with self._lock:
            found = self._uploaded.get(name)
        if found is not None:
            return found
        path = self.bundled.get(name.removeprefix(BUILT_IN)) if name.startswith(BUILT_IN) else None
        if path is None:
            raise MediaError(f"there is no reference {name!r:.60}; send its picture first, or name one of "
                             f"{', '.join(self.names)}")  # fmt: skip
        return fit_image(open_image(path), *self._size)

    def _check(self, data: bytes) -> None:
        """By the header alone, before anything is decoded."""
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # what follows is stricter
                with Image.open(io.BytesIO(data), formats=FORMATS) as found:
                    width, height = found.size
        except Image.DecompressionBombError as problem:
            raise MediaError(f"got too large a picture, wanted {self._most_pixels} pixels at most; "
                             "make it smaller first") from problem  # fmt: skip
        except Exception as problem:  # Pillow's readers say damage with whatever they trip over
            raise MediaError(f"got no picture that can be read; send one of {', '.join(FORMATS)}") from problem
        if width * height > self._most_pixels:
            raise MediaError(f"got a picture of {width}x{height}, wanted {self._most_pixels} pixels at most; "
                             "make it smaller first")  # fmt: skip
