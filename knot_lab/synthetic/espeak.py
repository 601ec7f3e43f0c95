"""espeak-ng through its C library: sound, and the time of every phoneme.

The library keeps a state that leaks from one utterance into the next (the same text comes out a few samples longer the
second time), and its espeak_Terminate hangs now and then. So it lives in a forked child, one per call of ``isolated``:
what is said depends on nothing that was said before, and nothing leaks.
"""

from __future__ import annotations

import ctypes as C
import os
import pickle
from collections.abc import Callable
from ctypes.util import find_library
from typing import NamedTuple, TypeVar

import numpy as np

from knot_core.errors import DrivingError

T = TypeVar("T")

_SYNCHRONOUS, _PHONEME_EVENTS, _IPA_NAMES, _DO_NOT_EXIT = 2, 1, 2, 0x8000
_RATE, _PITCH = 1, 3  # espeak_PARAMETER
_UTF8 = 1
_LIST_TERMINATED, _PHONEME = 0, 7  # espeak_EVENT_TYPE


class Phoneme(NamedTuple):
    """The start of a phoneme, in seconds, and its name in IPA; the name of a pause is empty."""

    start: float
    name: str


class _EventId(C.Union):
    _fields_ = (("number", C.c_int), ("name", C.c_char_p), ("string", C.c_char * 8))


class _Event(C.Structure):
    """espeak_EVENT of speak_lib.h."""

    _fields_ = (
        ("type", C.c_int),
        ("unique_identifier", C.c_uint),
        ("text_position", C.c_int),
        ("length", C.c_int),
        ("audio_position", C.c_int),  # ms
        ("sample", C.c_int),
        ("user_data", C.c_void_p),
        ("id", _EventId),
    )


_Callback = C.CFUNCTYPE(C.c_int, C.POINTER(C.c_short), C.c_int, C.POINTER(_Event))


class Espeak:
    """A voice that speaks; one in a process, so make it inside ``isolated``."""

    def __init__(self, voice: str, *, rate: int = 160, pitch: int = 50) -> None:
        """``rate`` in words a minute, ``pitch`` 0 .. 100."""
        self._voice = voice
        self._sound: list[bytes] = []
        self._phonemes: list[Phoneme] = []
        self._callback = _Callback(self._receive)
        self._library = library()
        options = _PHONEME_EVENTS | _IPA_NAMES | _DO_NOT_EXIT
        self.sample_rate = self._library.espeak_Initialize(_SYNCHRONOUS, 0, None, options)
        if self.sample_rate <= 0:
            raise DrivingError(f"espeak-ng found no voices; install its data: {_INSTALL}")
        self._library.espeak_SetSynthCallback(self._callback)
        if self._library.espeak_SetVoiceByName(voice.encode()):
            raise DrivingError(f"espeak-ng has no voice {voice!r}; `espeak-ng --voices` lists them")
        self._library.espeak_SetParameter(_RATE, rate, 0)
        self._library.espeak_SetParameter(_PITCH, pitch, 0)

    def say(self, text: str) -> tuple[np.ndarray, list[Phoneme]]:
        """Samples float32 [S] in -1..1 at ``sample_rate``, and the phonemes."""
        self._sound.clear()
        self._phonemes.clear()
        encoded = text.encode()
        if self._library.espeak_Synth(encoded, len(encoded) + 1, 0, 1, 0, _UTF8, None, None):
            raise DrivingError(f"espeak-ng could not say {text!r} with the voice {self._voice!r}")
        samples = np.frombuffer(b"".join(self._sound), dtype=np.int16).astype(np.float32) / 32768
        return samples, list(self._phonemes)

    def _receive(self, samples: C.POINTER(C.c_short), count: int, events: C.POINTER(_Event)) -> int:
        if samples and count:
            self._sound.append(C.string_at(samples, 2 * count))
        i = 0
        while events[i].type != _LIST_TERMINATED:
            if events[i].type == _PHONEME:
                name = bytes(events[i].id.string).decode("utf-8", "ignore")
                self._phonemes.append(Phoneme(events[i].audio_position / 1000, name))
            i += 1
        return 0


_INSTALL = "apt install espeak-ng, or brew install espeak-ng"


def library() -> C.CDLL:
    """The loaded library, or what to install."""
    for name in ("libespeak-ng.so.1", find_library("espeak-ng")):
        try:
            if name:
                return C.CDLL(name)
        except OSError:
            continue
    raise DrivingError(f"speech for training needs espeak-ng, and its library is not installed: {_INSTALL}")


def isolated(call: Callable[[], T]) -> T:
    """The result of ``call()``, or the error that it raises, run in a forked child of this process."""
    if not hasattr(os, "fork"):
        raise DrivingError("speech for training needs a system that can fork: use Linux, macOS or WSL")
    source, sink = os.pipe()
    child = os.fork()
    if child == 0:
        _answer(call, sink)
    os.close(sink)
    with os.fdopen(source, "rb") as pipe:
        answer = pipe.read()
    _, status = os.waitpid(child, 0)
    if status:
        raise DrivingError(f"espeak-ng ended with status {status}; reinstall it: {_INSTALL}")
    succeeded, result = pickle.loads(answer)
    if not succeeded:
        raise result
    return result


def _answer(call: Callable[[], T], sink: int) -> None:
    """The child's whole life; it never returns."""
    status = 1
    try:
        try:
            answer = (True, call())
        except Exception as problem:  # raised again by the parent
            answer = (False, problem)
        with os.fdopen(sink, "wb") as pipe:
            pickle.dump(answer, pipe)
        status = 0
    finally:
        os._exit(status)
