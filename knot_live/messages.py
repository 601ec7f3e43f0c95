"""Messages of the live protocol as values. Nothing here reads, sends or receives; see docs/live.md.

A text message is a JSON object with a `type`; a binary one begins with `Header`.
"""

import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from .message_fields import ProtocolError
from .sound_bytes import SOUND_RATE

VERSION = 1
# kinds of binary messages
H264, PCM16, FMP4, OPUS = 1, 2, 3, 4
SPEECH, CAMERA = 16, 17
# flags of binary messages
KEY_FRAME, INITIALISATION = 1, 2
VIDEO_FORMATS = ("h264", "fmp4")
SOUND_FORMATS = ("pcm16", "opus")
SPEECH_MODES = ("reply", "mirror")
SPEECH_RATES = (8_000, 192_000)  # Hz, lowest and highest
POINTS = "Face-Points"  # header of an uploaded picture: "x,y x,y x,y", its eyes and mouth

_HEADER = struct.Struct("<BBHIQ")


class Header(NamedTuple):
    """The 16 bytes before the payload of a binary message."""

    kind: int
    flags: int = 0
    epoch: int = 0  # how often the stream has been cut, modulo 2^16
    index: int = 0  # of the chunk; of what comes in: of the message
    position: int = 0  # pixel frame, or sample; of what comes in: the client's time in microseconds

    def pack(self) -> bytes:
        return _HEADER.pack(self.kind, self.flags, self.epoch % 2**16, self.index % 2**32, self.position)


HEADER_SIZE = _HEADER.size


def unpack(message: bytes) -> tuple[Header, memoryview]:
    """Header and payload of a binary message.

    Raises:
        ProtocolError: it is shorter than its header.
    """
    if len(message) < HEADER_SIZE:
        raise ProtocolError("bad_binary", f"got a binary message of {len(message)} bytes, its header alone has 16")
    return Header(*_HEADER.unpack_from(message)), memoryview(message)[HEADER_SIZE:]


@dataclass(frozen=True)
class SpeechFormat:
    """The form of a client's speech: mono PCM16 at `rate`; mode: reply (played in full) or mirror (late is dropped)."""

    rate: int = SOUND_RATE
    mode: str = "reply"


@dataclass(frozen=True, kw_only=True)
class Create:
    """A new session."""

    token: str | None = None
    reference: str = "builtin:ada"
    seed: int = 0
    settings: Mapping[str, Any] = field(default_factory=dict)
    video: str = "h264"
    sound: str = "pcm16"
    speech: SpeechFormat = SpeechFormat()


@dataclass(frozen=True, kw_only=True)
class Resume:
    """Go on with a session whose connection was lost."""

    session_id: str
    resume_token: str
    last_frame: int = -1
    video: str = "h264"
    sound: str = "pcm16"
    speech: SpeechFormat = SpeechFormat()


@dataclass(frozen=True, kw_only=True)
class View:
    """Watch a session."""

    view_token: str
    video: str = "h264"
    sound: str = "pcm16"


@dataclass(frozen=True, kw_only=True)
class Attach:
    """Drive a session that somebody else has made, such as a node of ComfyUI."""

    session: str
    token: str
    video: str = "h264"
    sound: str = "pcm16"
    speech: SpeechFormat = SpeechFormat()


@dataclass(frozen=True)
class Acknowledge:
    """The viewer has shown that pixel frame; `transport`: seconds that a message takes there and back, and a picture
    to be decoded, where he has measured that.
    """

    epoch: int
    frame: int
    transport: float | None = None


@dataclass(frozen=True)
class Ping:
    """Is anybody there?"""


@dataclass(frozen=True, eq=False)
class CameraPicture:
    """A JPEG of the driver's face."""

    jpeg: bytes


@dataclass(frozen=True)
class RecentreCamera:
    """Take the driver's pose of now as straight ahead."""


class Received(NamedTuple):
    """The parts of one message, in order."""

    event_id: str | None
    requests: tuple[Any, ...]  # controls, or one of the requests above


@dataclass(frozen=True, kw_only=True)
class Vocabulary:
    """The names and ranges that a session's messages may use."""

    controls: Mapping[str, tuple[float, float]]  # name -> lowest and highest value
    gestures: tuple[str, ...] = ()
    speech: SpeechFormat = SpeechFormat()

    def with_speech(self, speech: SpeechFormat) -> "Vocabulary":
        """The same, of a client that sends its speech so."""
        return replace(self, speech=speech)


def said(kind: str, **fields: Any) -> str:
    """A text message of the server or the client; fields that are None are left out."""
    return json.dumps({"type": kind} | {name: value for name, value in fields.items() if value is not None})
