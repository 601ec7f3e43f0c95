"""The live protocol: whether a message that came is sound, and what it asks for. Nothing here sends or receives.

The messages are in `messages`, their fields' checks in `message_fields`; see docs/live.md.
"""

import base64
import binascii
import json
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from . import controls
from .gestures import STRENGTHS
from .message_fields import (
    LARGEST,
    MOST_NAME,
    Check,
    Needed,
    ProtocolError,
    Shape,
    checked,
    choice,
    inner,
    number,
    numbers,
    switch,
    text,
    values,
    whole,
)
from .messages import (
    CAMERA,
    SOUND_FORMATS,
    SPEECH,
    SPEECH_MODES,
    SPEECH_RATES,
    VIDEO_FORMATS,
    Acknowledge,
    Attach,
    CameraPicture,
    Create,
    Ping,
    Received,
    RecentreCamera,
    Resume,
    SpeechFormat,
    View,
    Vocabulary,
    unpack,
)

MOST_TEXT = 64 * 1024  # characters of a text message without sound
MOST_BYTES = 1024 * 1024  # of any message
_MOST_EVENT_ID = 128
_MOST_TRANSPORT = 10.0  # seconds
_MOST_SENTENCE = 500
_MOST_PROMPT = 2000


OPENING = ("session.create", "session.resume", "session.view", "session.attach")


def parse_opening(text: str) -> Create | Resume | View | Attach:
    """A connection's first message.

    Raises:
        ProtocolError: it is another message, or malformed.
    """
    kind, event_id, fields = _object(text)
    if kind not in OPENING:
        raise ProtocolError("not_created", f"got {kind!r:.80} first, wanted one of {', '.join(OPENING)}", event_id)
    shape, make = _OPENINGS[kind]
    return make(**checked(kind, event_id, fields, shape))


def parse(text: str, words: Vocabulary) -> Received:
    """A later text message.

    Raises:
        ProtocolError: it is malformed: not JSON, unknown, incomplete, or with a value of the wrong type or range.
    """
    kind, event_id, fields = _object(text)
    if kind in OPENING:
        raise ProtocolError("already_created", f"got {kind} again: a connection has one session", event_id)
    if kind not in _MESSAGES:
        raise ProtocolError(
            "unknown_type", f"got the type {kind!r:.80}, wanted one of {', '.join(_MESSAGES)}", event_id
        )
    shape, make = _MESSAGES[kind]
    if len(text) > MOST_TEXT and kind != "input_audio_buffer.append":
        raise ProtocolError("too_large", f"got {len(text)} characters, wanted {MOST_TEXT} at most", event_id)
    requests = make(words, checked(kind, event_id, fields, shape(words)))
    if not requests:
        raise ProtocolError(
            "missing_field", f"{kind} asks for nothing; give one of {', '.join(shape(words))}", event_id
        )
    return Received(event_id, tuple(requests))


def parse_binary(message: bytes, words: Vocabulary) -> Received:
    """A binary message from a client: speech or a camera's picture.

    Raises:
        ProtocolError: it is too short, of an unknown kind, or its payload is not whole.
    """
    header, payload = unpack(message)
    if header.kind == SPEECH:
        return Received(None, (_speech(bytes(payload), words),))
    if header.kind == CAMERA:
        if payload[:3] != b"\xff\xd8\xff":
            raise ProtocolError("bad_binary", "got a camera picture that is no JPEG")
        return Received(None, (CameraPicture(bytes(payload)),))
    raise ProtocolError("bad_binary", f"got the kind {header.kind}, wanted {SPEECH} (speech) or {CAMERA} (camera)")


def _object(text: str) -> tuple[str, str | None, dict[str, Any]]:
    """Type, event id and the other fields of a text message."""
    if len(text) > 2 * MOST_BYTES:
        raise ProtocolError("too_large", f"got {len(text)} characters, wanted {MOST_TEXT} at most")
    try:
        found = json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        raise ProtocolError("bad_json", "got a text message that is not JSON") from None
    if not isinstance(found, dict) or not isinstance(found.get("type"), str):
        raise ProtocolError("bad_json", "got JSON without a type, wanted an object with one")
    kind, event_id = found.pop("type"), found.pop("event_id", None)
    if event_id is not None and not (isinstance(event_id, str) and len(event_id) <= _MOST_EVENT_ID):
        raise ProtocolError("bad_value", f"event_id must be a text of at most {_MOST_EVENT_ID} characters")
    return kind, event_id, found


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


def _speech_format(value: Any) -> SpeechFormat:
    shape = {"rate": whole(*SPEECH_RATES), "mode": choice(SPEECH_MODES)}
    return SpeechFormat(**inner(shape)(value))


def _sound(value: Any) -> bytes:
    if not isinstance(value, str) or len(value) > 2 * MOST_BYTES:
        raise ValueError("base64 of PCM16")
    try:
        found = base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError):
        found = b""
    if not found or len(found) % 2:
        raise ValueError("base64 of PCM16, two bytes for each sample")
    return found


def _speech(data: bytes, words: Vocabulary) -> controls.Speech:
    if not data or len(data) % 2:
        raise ProtocolError("bad_binary", f"got {len(data)} bytes of speech, wanted PCM16: two bytes for each sample")
    return controls.Speech(np.frombuffer(data, dtype="<i2"), words.speech.rate, words.speech.mode)


_MOST_STEPS = 16  # of a chunk, which others' chunks would wait for
# settings of a stream that may change while it runs, within what a server can bear; the stream checks them together
SETTINGS: Shape = {
    "num_chunk_frames": whole(1, 8),
    "steps": whole(1, _MOST_STEPS),
    "shift": number(0.01, 100),
    "timesteps": numbers(0, 1000, _MOST_STEPS),
    "first_timesteps": numbers(0, 1000, _MOST_STEPS),
    "sigma_table": switch,
    "sampler": text(MOST_NAME),
    "fusion": number(0, 1),
    "run_ahead_stride": whole(0, 10_000),
    "run_ahead_start": whole(0, 10_000),
}
_FORMATS: Shape = {"video": choice(VIDEO_FORMATS), "sound": choice(SOUND_FORMATS)}
_SECRET = Needed(text(256))
_OPENINGS: Mapping[str, tuple[Shape, Callable[..., Any]]] = {
    "session.create": (
        {"token": text(256), "reference": text(MOST_NAME), "seed": whole(0, LARGEST),
         "settings": inner(SETTINGS), "speech": _speech_format, **_FORMATS},
        Create,
    ),
    "session.resume": (
        {"session_id": _SECRET, "resume_token": _SECRET, "last_frame": whole(-1, LARGEST),
         "speech": _speech_format, **_FORMATS},
        Resume,
    ),
    "session.view": ({"view_token": _SECRET, **_FORMATS}, View),
    "session.attach": ({"session": _SECRET, "token": _SECRET, "speech": _speech_format, **_FORMATS}, Attach),
}  # fmt: skip


def _update(_: Vocabulary, fields: Mapping[str, Any]) -> list[Any]:
    found = [controls.Settings(fields["settings"])] if fields.get("settings") else []
    return found + ([controls.SetLiveliness(fields["liveliness"])] if "liveliness" in fields else [])


def _interaction(_: Vocabulary, fields: Mapping[str, Any]) -> list[Any]:
    make: Mapping[str, Callable[[Any], Any]] = {
        "controls": controls.SetControls,
        "pose": controls.SetPose,
        "gesture": lambda one: controls.Gesture(**one),
        "look": lambda one: controls.Look(**one),
        "prompt": lambda one: controls.Prompt(**one),
    }
    return [make[name](value) for name, value in fields.items()]


def _interaction_shape(words: Vocabulary) -> Shape:
    return {
        "controls": values(words.controls, given_back=True),
        "pose": values(words.controls, given_back=False),
        "gesture": inner({"name": Needed(choice(words.gestures)), "strength": number(*STRENGTHS)}),
        "look": inner({"x": Needed(number(-1, 1)), "y": Needed(number(-1, 1))}),
        "prompt": _prompt,
    }


def _prompt(value: Any) -> dict[str, Any]:
    """The text by itself, or an object with it and with what else is asked for."""
    words = text(_MOST_PROMPT)
    if isinstance(value, dict):
        return inner({"text": Needed(words), "recache": switch})(value)
    return {"text": words(value)}


def _plain(make: Callable[..., Any], **shape: Check | Needed) -> tuple[Callable[[Vocabulary], Shape], Callable]:
    return lambda _: shape, lambda _, fields: [make(**fields)]


_MESSAGES: Mapping[str, tuple[Callable[[Vocabulary], Shape], Callable[[Vocabulary, Mapping[str, Any]], list[Any]]]] = {
    "session.update": (
        lambda _: {"settings": inner(SETTINGS), "liveliness": number(0, 1)},
        _update,
    ),
    "session.interaction": (_interaction_shape, _interaction),
    "session.reference": _plain(
        lambda reference, cut=False: controls.Reference(reference, cut),
        reference=Needed(text(MOST_NAME)),
        cut=switch,
    ),
    "session.say": _plain(
        lambda text, voice="": controls.Say(text, voice),
        text=Needed(text(_MOST_SENTENCE)),
        voice=text(MOST_NAME, empty=True),
    ),
    "input_audio_buffer.append": (
        lambda _: {"audio": Needed(_sound)},
        lambda words, fields: [_speech(fields["audio"], words)],
    ),
    "input_audio_buffer.commit": _plain(controls.CommitSpeech),
    "input_audio_buffer.clear": _plain(controls.ClearSpeech),
    "response.cancel": _plain(controls.CancelReply),
    "output_audio_buffer.clear": _plain(controls.Cancel, played_frame=Needed(whole(-1, LARGEST))),
    "playback.ack": _plain(
        Acknowledge,
        epoch=Needed(whole(0, LARGEST)),
        frame=Needed(whole(-1, LARGEST)),
        transport=number(0, _MOST_TRANSPORT),
    ),
    "camera.recentre": _plain(RecentreCamera),
    "session.pause": _plain(controls.Pause),
    "session.go_on": _plain(controls.GoOn),
    "session.finish": _plain(controls.Finish),
    "recording.start": _plain(controls.StartRecording),
    "recording.stop": _plain(controls.StopRecording),
    "ping": _plain(Ping),
}
