"""What sessions are made from: one model, its references, and what a client's words may be."""

from collections.abc import Callable
from dataclasses import dataclass, field
from threading import Lock
from typing import Any

from .engine import CONTROLS, RANGES, Anchor, KnotError, Model
from .events import Event
from .hub import Made
from .limits import Limits
from .protocol import Create, ProtocolError, Vocabulary
from .references import References

SETTINGS = ("num_chunk_frames", "steps", "shift", "timesteps", "first_timesteps", "fusion", "run_ahead_stride",
            "run_ahead_start")  # fmt: skip
_MOST_ANCHORS = 8  # that are kept encoded


@dataclass(eq=False)
class Studio:
    """Makes sessions; any thread may ask."""

    model: Model
    references: References
    limits: Limits
    badge: bool = True
    _anchors: dict[str, Anchor] = field(default_factory=dict)
    _encoding: Lock = field(default_factory=Lock)

    @classmethod
    def of(cls, model: Model, limits: Limits, *, badge: bool = True) -> "Studio":
        """One of a model at the model's own size."""
        size = model.preset.height, model.preset.width
        pictures = References(*size, most_pixels=limits.picture_pixels, most_pictures=limits.max_pictures)
        return cls(model, pictures, limits, badge)

    def about(self) -> dict[str, Any]:
        """What anybody may know."""
        preset, limits = self.model.preset, self.limits
        return {
            "model": preset.family,
            "fps": self.model.fps,
            "size": [preset.width, preset.height],
            "controls": {name: list(RANGES[name]) for name in CONTROLS},
            "gestures": [],
            "voices": [],
            "references": self.references.names,
            "settings": list(SETTINGS),
            "prompts": preset.needs_text,
            "badge": self.badge,
            "chunk_seconds": 4 * self.model.settings.num_chunk_frames / self.model.fps,
            "limits": {
                "message_bytes": limits.max_message_bytes,
                "messages_per_second": limits.messages_per_second,
                "picture_bytes": limits.picture_bytes,
                "picture_pixels": limits.picture_pixels,
                "idle_seconds": limits.idle_seconds,
                "session_seconds": limits.session_seconds,
                "resume_seconds": limits.resume_seconds,
            },
        }

    def make(self, wish: Create) -> Made:
        """A session as a client wants it; encoding its reference takes a while.

        Raises:
            ProtocolError: its reference or its settings cannot be.
        """
        try:
            settings = self.model.settings.__class__(**{**vars(self.model.settings), **wish.settings})
            anchor = self.anchor(wish.reference)
        except (KnotError, TypeError) as problem:
            raise ProtocolError("bad_value", str(problem)) from None
        from .stand_in import StandIn

        session = StandIn(self.model, anchor, settings, seed=wish.seed)

        def listen(tell: Callable[[Event], None]) -> None:
            session.tell = tell

        height, width = self.model.preset.height, self.model.preset.width
        return Made(session=session, width=width, height=height, fps=self.model.fps, words=self.words(),
                    about=self.about(), listen=listen)  # fmt: skip

    def words(self) -> Vocabulary:
        """What a client may say."""
        about = self.about()
        return Vocabulary(controls=RANGES, gestures=tuple(about["gestures"]), settings=SETTINGS)

    def anchor(self, name: str) -> Anchor:
        """The reference of that name, encoded.

        Raises:
            MediaError: there is none.
        """
        with self._encoding:
            if name not in self._anchors:
                self._anchors[name] = self.model.encode_anchor(self.references.get(name))
                while len(self._anchors) > _MOST_ANCHORS:
                    self._anchors.pop(next(iter(self._anchors)))
            return self._anchors[name]
