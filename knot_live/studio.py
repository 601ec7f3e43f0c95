"""A studio makes sessions from one model, its references and voices."""

import logging
import secrets
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from threading import Lock
from typing import Any

from . import face_pose, speaking
from .adapting import Adapting
from .drawing import Changed
from .engine import RANGES, Anchor, KnotError, Model, takes_controls
from .events import Event
from .gestures import GESTURES
from .limits import Limits
from .messages import Create, Vocabulary
from .protocol import SETTINGS, ProtocolError
from .references import References
from .scheduling import Refuse, most_sessions
from .session import Session
from .sources import Made
from .speed import Steps, changed_settings
from .ticker import Ticker, least_of

logger = logging.getLogger(__name__)

_MOST_ANCHORS = 8  # that are kept encoded


class _Events:
    """A session's events to whoever listens; it is made before there is somebody."""

    def __init__(self) -> None:
        self._listener: Callable[[Event], None] = lambda _: None

    def listen(self, listener: Callable[[Event], None]) -> None:
        self._listener = listener

    def __call__(self, event: Event) -> None:
        self._listener(event)


def described(model: Model, width: int, height: int, limits: Limits) -> dict[str, Any]:
    """A description of a model at that size in pixels, and of the server's services, for clients."""
    voices, words = speaking.voices(), words_of(model)
    return {
        "model": model.preset.family,
        "fps": model.fps,
        "size": [width, height],
        "controls": {name: list(ends) for name, ends in words.controls.items()},
        "gestures": list(words.gestures),
        "voices": [voice.name for voice in voices],
        "voice_titles": {voice.name: voice.title for voice in voices},
        "speech_problem": speaking.missing(),
        "camera_problem": face_pose.missing(),
        "references": [],
        "aligns_faces": model.preset.aligns_faces,
        "settings": list(SETTINGS),
        "chunk_seconds": 4 * model.settings.num_chunk_frames / model.fps,
        "limits": limits.told(),
    }


def words_of(model: Model) -> Vocabulary:
    """The vocabulary of a session of that model."""
    moves = model.adapter is not None and takes_controls(model.adapter)
    return Vocabulary(controls=RANGES if moves else {}, gestures=tuple(GESTURES) if moves else ())


class Studio:
    """Makes sessions; any thread may ask.

    `speak` makes sound of a sentence and a voice's name. For models that are driven by text, `encode_text` encodes a
    prompt as [1, T, text_dim], and `prompt` is what sessions begin with. `lanes` sessions are drawn at a time; None: as
    many as the machine's processors allow. `measures`: sessions are refused that cannot be drawn in time beside others.
    """

    def __init__(  # noqa: PLR0913 - all but the first two may be left out
        self,
        model: Model,
        limits: Limits,
        *,
        badge: bool = True,
        speak: speaking.Speaker = speaking.synthesize,
        encode_text: Callable[[str], Any] | None = None,
        prompt: str = "",
        lanes: int | None = None,
        measures: bool = False,
    ) -> None:
        self._lanes, self._measures = lanes, measures
        self.model, self.limits, self._badge, self._speak = model, limits, badge, speak
        self._encode_text = encode_text
        self._text = None if encode_text is None else encode_text(prompt)
        size = model.preset.height, model.preset.width
        self.references = References(*size, most_pixels=limits.picture_pixels, most_pictures=limits.max_pictures,
                                     aligned=model.preset.aligns_faces)  # fmt: skip
        self.steps: Steps | None = None
        self._change: Changed = changed_settings  # until the machine's speed is known
        self.ticker: Ticker | None = None  # until then, each session has a thread of its own
        self._anchors: dict[str, Anchor] = {}
        self._encoding = Lock()
        self._folder = Path(tempfile.mkdtemp(prefix="knot-live-"))  # of recordings

    def about(self) -> dict[str, Any]:
        """Facts that every client may know."""
        preset = self.model.preset
        about = described(self.model, preset.width, preset.height, self.limits)
        own = {"references": self.references.names, "prompts": self._encode_text is not None, "badge": self._badge}
        return about | own

    def make(self, wish: Create) -> Made:
        """A session as a client wants it; encoding its reference takes a while.

        Raises:
            ProtocolError: its reference or its settings cannot be.
        """
        events, ticker = _Events(), self.ticker
        try:
            session = self.session(wish, on_event=events, changed=ticker and ticker.changed)
        except KnotError as problem:
            raise ProtocolError("bad_value", str(problem)) from None
        if self._measures and ticker is not None:
            answer = ticker.admit(session.adapting.ladder)
            if isinstance(answer, Refuse):
                raise ProtocolError("server_full", answer.sentence)
        height, width = self.model.preset.height, self.model.preset.width
        about = self.about() | {"steps": session.adapting.rung.shape.steps}
        return Made(session=session, width=width, height=height, fps=self.model.fps, words=words_of(self.model),
                    about=about, listen=events.listen, ticker=ticker)  # fmt: skip

    def session(self, wish: Create, **others: Any) -> Session:
        """A session as a client wants it; `others` are options of it.

        Raises:
            KnotError: its reference or its settings cannot be.
        """
        own = self.model.settings
        settings = self._change(own, {"num_chunk_frames": own.num_chunk_frames, **wish.settings})
        anchor = self.anchor(wish.reference)
        return Session(self.model, anchor, settings, seed=wish.seed, **self.options(), **others)

    def options(self) -> dict[str, Any]:
        """The options that all its sessions have."""
        return {
            "anchor_of": self.anchor, "change_settings": self._change, "encode_text": self._encode_text,
            "speak": self._speak, "record_to": self._new_recording, "degrades": True,
        }  # fmt: skip

    def anchor(self, name: str) -> Anchor:
        """The reference of that name, encoded.

        Raises:
            MediaError: there is none.
        """
        with self._encoding:
            if name not in self._anchors:
                self._anchors[name] = self.model.encode_anchor(self.references.get(name), text=self._text)
                while len(self._anchors) > _MOST_ANCHORS:
                    self._anchors.pop(next(iter(self._anchors)))
            return self._anchors[name]

    def warm(self, steps: Steps | None = None) -> None:
        """Find out how fast this machine is, and draw a chunk that nobody sees, so that the first session begins as
        quickly as later ones, with as many steps as can be afforded: those that were found before, if they are given.
        From then on sessions are drawn in turn.
        """
        self.steps = steps or Steps(self.model, self.anchor(Create().reference))
        self._change = self.steps.change
        chunks = self.make(Create()).session.chunks()
        next(chunks)
        chunks.close()
        costs = self.steps.costs
        costs = replace(costs, lanes=self._lanes or costs.lanes)
        logger.info("%s", costs)
        self.ticker = Ticker(costs, lanes=costs.lanes)

    @property
    def room_for(self) -> int:
        """How many sessions of the model's own settings are let in, by what chunks cost; once it is warm."""
        own = self._change(self.model.settings, {"num_chunk_frames": self.model.settings.num_chunk_frames})
        shape = least_of(Adapting(own, own.num_chunk_frames).ladder)
        return most_sessions(self.ticker.costs, shape)

    def close(self) -> None:
        """End the sessions, and forget the recordings."""
        if self.ticker is not None:
            self.ticker.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _new_recording(self) -> Path:
        return self._folder / f"{secrets.token_hex(8)}.mp4"
