"""A typed sentence becomes speech: through espeak-ng, where it is installed, or any other function of that form.

espeak-ng is a program of its own (GPL 3); it is neither part of this package nor of what it installs.
"""

import os
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from .engine import KnotError, mistake_in

Speaker = Callable[[str, str], tuple[np.ndarray, int]]  # text, voice -> float32 [S] of full scale 1, and their rate

MOST_CHARACTERS = 500
MOST_SECONDS = 90.0  # of speech: numbers of 500 digits take minutes
DEFAULT_VOICE = "en-us"
_TIMEOUT = 10.0  # seconds
_WOMAN = "+f3"  # espeak-ng's variant of any voice
_HEADER = 44  # bytes of a WAV file with nothing but its format and its samples
_RATE, _FORMAT = slice(24, 28), slice(20, 24)  # where it says samples a second; PCM of one channel
_ON_WINDOWS = Path(os.environ.get("PROGRAMFILES", "C:/Program Files"), "eSpeak NG", "espeak-ng.exe")


class SpeakingError(KnotError):
    """A sentence that cannot be spoken here."""


@dataclass(frozen=True)
class Voice:
    """One that can be chosen."""

    name: str  # what `synthesize` takes
    title: str  # what people read
    language: str  # its code, such as en-us


def missing() -> str | None:
    """Why nothing can be spoken here, and how that is mended; None where espeak-ng tells its voices."""
    program = _program()
    if program is not None:
        return mistake_in(lambda: _voices_of(program))
    return (
        "typed sentences are spoken by espeak-ng, which is not installed where this runs; install it (Debian, Ubuntu: "
        "sudo apt install espeak-ng; macOS: brew install espeak-ng; Windows: winget install eSpeak-NG.eSpeak-NG)"
    )


def synthesize(text: str, voice: str = DEFAULT_VOICE) -> tuple[np.ndarray, int]:
    """The sentence as sound: float32 [S] of full scale 1, and samples a second. `voice`: of `voices`; "": English.

    Raises:
        SpeakingError: espeak-ng is missing or fails, the voice does not exist, or the text is empty or too long.
    """
    program = _require_program()
    text, voice = _checked(text), voice or DEFAULT_VOICE
    if voice not in {one.name for one in _voices_of(program)}:
        raise SpeakingError(f"there is no voice {str(voice)[:40]!r}; choose one of those that are listed")
    return _read_wave(_run(program, "--stdin", "--stdout", "-b", "1", "-v", voice, text=text))


def voices() -> tuple[Voice, ...]:
    """The voices of espeak-ng, each as a man's and as a woman's; none where something is `missing`."""
    return () if missing() else _voices_of(_require_program())


@lru_cache(maxsize=1)
def _voices_of(program: str) -> tuple[Voice, ...]:
    found = {}
    for line in _run(program, "--voices").decode("utf-8", "replace").splitlines()[1:]:
        # priority, language, age and gender, name, file, other languages
        _, language, _, name, file, *_ = [*line.split(), "", "", "", "", ""]
        if file and not file.startswith("mb/"):  # those are of another program, mbrola, and its data
            found.setdefault(language, name.replace("_", " "))
    return tuple(
        Voice(f"{language}{variant}", f"{title}{words}", language)
        for language, title in sorted(found.items(), key=lambda item: item[1])
        for variant, words in (("", ""), (_WOMAN, ", woman"))
    )


def _program() -> str | None:
    found = shutil.which("espeak-ng")
    return found or (str(_ON_WINDOWS) if _ON_WINDOWS.is_file() else None)


def _require_program() -> str:
    program = _program()
    if program is None:
        raise SpeakingError(missing())
    return program


def _checked(text: str) -> str:
    """On one line, without control characters."""
    if not isinstance(text, str) or len(text) > MOST_CHARACTERS:
        raise SpeakingError(f"the text must be at most {MOST_CHARACTERS} characters long; say it in parts")
    text = " ".join("".join(sign if sign.isprintable() else " " for sign in text).split())
    if not text:
        raise SpeakingError("there is no text to speak; write a sentence")
    return text


def _run(program: str, *arguments: str, text: str = "") -> bytes:
    """Run it and return its output; without a shell, and the text is never an argument."""
    flags = getattr(subprocess, "CREATE_NO_WINDOW", 0)
    try:
        done = subprocess.run(
            [program, *arguments],
            input=text.encode(),
            capture_output=True,
            timeout=_TIMEOUT,
            check=True,
            creationflags=flags,
        )
    except subprocess.TimeoutExpired as problem:
        raise SpeakingError(f"espeak-ng did not end within {_TIMEOUT:.0f} s; try a shorter text") from problem
    except (OSError, subprocess.CalledProcessError) as problem:
        raise SpeakingError(f"espeak-ng failed ({problem}); see whether it speaks in a terminal") from problem
    return done.stdout


def _read_wave(data: bytes) -> tuple[np.ndarray, int]:
    """Read a WAV file from a pipe: its sizes are not known yet when espeak-ng writes the header."""
    if data[:4] != b"RIFF" or data[36:40] != b"data" or data[_FORMAT] != b"\x01\x00\x01\x00":
        raise SpeakingError("espeak-ng gave no sound; see whether it speaks in a terminal")
    rate = int.from_bytes(data[_RATE], "little")
    end = len(data) - (len(data) - _HEADER) % 2
    samples = np.frombuffer(data[_HEADER:end], dtype="<i2").astype(np.float32) / 2**15
    if not 0 < len(samples) <= MOST_SECONDS * rate:
        raise SpeakingError(f"that is no text, or more than {MOST_SECONDS:.0f} s of speech; write another")
    return samples, rate
