"""Pictures that a session may begin with: the bundled ones, and those that clients send. No path or URL is opened."""

import io
import secrets
import threading
import warnings
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from .engine import MediaError, crop_reference, is_aligned, open_image, sample_pictures

BUILT_IN, UPLOADED = "builtin:", "upload:"
FORMATS = ("PNG", "JPEG", "WEBP")


@dataclass(frozen=True, kw_only=True)
class Uploaded:
    """A picture that was taken."""

    name: str  # nobody else can guess it
    face: str = ""  # a sentence: what found the face, which one, and how it was brought into place


class References:
    """Pictures by name, each float32 [height, width, 3] in 0..1 of one size. Any thread may call.

    `aligned`: their faces are brought to where the model has faces, and there are photos among the bundled ones.
    """

    def __init__(self, height: int, width: int, *, most_pixels: int, most_pictures: int, aligned: bool = False) -> None:
        self._size, self._most_pixels, self._most_pictures = (height, width), most_pixels, most_pictures
        self._aligned = aligned
        self.bundled: dict[str, Path] = sample_pictures(photos=aligned)
        self._uploaded: OrderedDict[str, Any] = OrderedDict()
        self._decoding, self._lock = threading.Lock(), threading.Lock()

    @property
    def names(self) -> list[str]:
        """The names that every client may use."""
        return [BUILT_IN + name for name in self.bundled]

    def add(self, data: bytes, points: str = "") -> Uploaded:
        """Take a picture; `points`, "x,y x,y x,y": eyes and mouth in its pixels, for a face that is aligned by them.

        Raises:
            NoFaceError: the model's faces are aligned, there are no points, and no face is found.
            MediaError: it is no picture of `FORMATS`, is damaged, has too many pixels, or the points are no face's.
        """
        self._check(data)
        with self._decoding:  # one at a time: each takes its pixels twelvefold
            picture, face = self._cropped(io.BytesIO(data), points)
        name = UPLOADED + secrets.token_urlsafe(16)
        self.put(name, picture)
        return Uploaded(name=name, face=face)

    def _cropped(self, file: Any, points: str = "") -> tuple[Any, str]:
        """The reference in a picture, and what is to be said of its face."""
        aligned = is_aligned("auto", points, by_family=self._aligned)
        crop = crop_reference(open_image(file), self._size, aligned=aligned, points=points)
        return crop.picture, crop.said

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
        return self._cropped(path)[0]

    def shown(self, name: str) -> tuple[bytes, str] | None:
        """A picture for pages, as a file, and the file's media type: where faces are aligned, the crop. By the name of
        a bundled one, or an uploaded one's whole name; None: there is none.
        """
        with self._lock:
            picture = self._uploaded.get(name)
        path = self.bundled.get(name)
        if picture is None and path is None:
            return None
        if path is not None and not self._aligned:
            return path.read_bytes(), "image/png"
        file = io.BytesIO()
        values = self.get(BUILT_IN + name) if picture is None else picture
        Image.fromarray((values * 255).round().byte().numpy()).save(file, "PNG")
        return file.getvalue(), "image/png"

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
