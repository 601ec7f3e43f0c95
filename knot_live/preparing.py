"""Slow work before a control can take hold: sentences are spoken, prompts and pictures encoded.

It is done on one thread beside the drawing, in the order in which it was asked for.
"""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from threading import BoundedSemaphore
from typing import Any

import numpy as np

from .controls import CommitSpeech, Control, Prompt, Reference, Say, Speech

_MOST_WAITING = 16
Speaker = Callable[[str, str], tuple[np.ndarray, int]]  # text and voice to samples and their rate


@dataclass(frozen=True, eq=False)
class Wish:
    """A control by its number, with what was made of it."""

    number: int
    control: Control
    made: Any = None  # of a prompt its text [1, T, D], of a reference its anchor


class Preparing:
    """`done` is called with wishes that can take hold, `refused` with a number and a sentence, on this one's thread.

    `encode_text`, `anchor_of` (of a picture's name) and `speak` are lent by the host; what needs one that is None is
    refused. A ValueError that they raise is the user's mistake, and its message is the sentence.
    """

    def __init__(
        self,
        done: Callable[[Sequence[Wish]], None],
        refused: Callable[[int, str], None],
        *,
        encode_text: Callable[[str], Any] | None,
        anchor_of: Callable[[str], Any] | None,
        speak: Speaker | None,
    ) -> None:
        self._done, self._refused = done, refused
        self._ways: Mapping[type[Control], tuple[Any, str]] = {
            Prompt: (encode_text and partial(_encode, encode_text), "this model reads no prompt"),
            Reference: (anchor_of and partial(_picture, anchor_of), "this session has one picture and takes no other"),
            Say: (speak and partial(_speak, speak), "nothing here speaks a text: send the sound of it"),
        }
        self._pool = ThreadPoolExecutor(1, "knot-live-preparing")
        self._room = BoundedSemaphore(_MOST_WAITING)
        self._silenced = 0  # a control's number: sentences that were asked for before it are not spoken

    def takes(self, control: Control) -> bool:
        """Whether a control must be prepared."""
        return type(control) in self._ways

    def start(self, number: int, control: Control) -> None:
        """Prepare it later; returns at once."""
        prepare, missing = self._ways[type(control)]
        if prepare is None:
            self._refused(number, missing)
        elif not self._room.acquire(blocking=False):
            self._refused(number, f"{_MOST_WAITING} sentences, prompts or pictures wait already; ask again later")
        else:
            self._pool.submit(self._prepare, prepare, number, control)

    def silence(self, number: int) -> None:
        """Forget the sentences that were asked for before that control."""
        self._silenced = number

    def close(self) -> None:
        """Drop what has not begun; results of what has begun are ignored."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _prepare(self, prepare: Callable[[int, Any], Sequence[Wish]], number: int, control: Control) -> None:
        try:
            made = () if self._is_silenced(number, control) else prepare(number, control)
            if self._is_silenced(number, control):
                self._refused(number, "it was cancelled before it was spoken")
            else:
                self._done(made)
        except ValueError as problem:
            self._refused(number, str(problem))
        except Exception as problem:  # a host's own, on a thread where nobody else would hear of it
            self._refused(number, f"{control.kind} failed: {problem}")
        finally:
            self._room.release()

    def _is_silenced(self, number: int, control: Control) -> bool:
        return isinstance(control, Say) and number < self._silenced


def _encode(encode_text: Callable[[str], Any], number: int, prompt: Prompt) -> Sequence[Wish]:
    return (Wish(number, prompt, encode_text(prompt.text)),)


def _picture(anchor_of: Callable[[str], Any], number: int, reference: Reference) -> Sequence[Wish]:
    return (Wish(number, reference, anchor_of(reference.name)),)


def _speak(speak: Speaker, number: int, say: Say) -> Sequence[Wish]:
    samples, rate = speak(say.text, say.voice)
    return Wish(number, Speech(samples, rate)), Wish(number, CommitSpeech())
