"""The command `animate`."""

import json
import logging
import math
import sys
from argparse import Namespace
from collections.abc import Callable
from contextlib import closing, nullcontext
from time import perf_counter

from torch import Tensor

from .bench import Meter
from .config import StreamSettings
from .directing import check_directing, directed_driving, drives
from .driving import Driving
from .errors import KnotError, MediaError, SettingsError
from .geometry import first_pixel_frame, latent_size
from .interrupt import INTERRUPTED, Interrupt
from .media import AudioFile, fit_image, open_image, save_contact_sheet
from .model import Model
from .options import given_settings
from .outputs import check_written
from .stream import Chunk, Stream, leave_state, open_stream, resume_stream
from .stream.decode import to_uint8
from .stream.thread_choice import choose_threads
from .text import load_text_encoder, padded
from .threads import threads_inside
from .wan.families import with_settings
from .wan.reading import read_stored
from .write_loop import run, unwatched

logger = logging.getLogger(__name__)

_MOST_SECONDS = 1e8  # three years
_MOST_TILES = 240  # of a contact sheet: two minutes


class Sheet:
    """Gathers the reference and a picture every half second for a contact sheet."""

    def __init__(self, reference: Tensor | None, fps: int) -> None:
        self._fps = fps
        self.pictures = [] if reference is None else [("reference", to_uint8(reference.movedim(-1, -3)[None])[0])]
        self._first: int | None = None
        self._taken = 0

    def add(self, chunk: Chunk) -> None:
        """Take what is due."""
        start = chunk.first_pixel_frame
        self._first = start if self._first is None else self._first
        while self._taken < _MOST_TILES and (due := self._due()) < start + len(chunk.pixel_frames):
            self.pictures.append((f"{due / self._fps:.1f} s", chunk.pixel_frames[due - start].clone()))
            self._taken += 1

    def _due(self) -> int:
        return self._first + math.floor(self._taken * self._fps / 2)


def animate(options: Namespace, load: Callable[[], Model]) -> int:
    """Make a video; what was made is kept however it ends."""
    _check(options)
    model = load()
    meter = Meter(model=model)
    opened = nullcontext() if options.audio is None else closing(AudioFile(options.audio))
    with Interrupt() as interrupt, opened as audio:
        reference = None if options.resume else fitted(open_image(options.reference), model, options)
        stream = _stream(options, model, reference, meter, interrupt)
        start = first_pixel_frame(stream.plan.start)
        stream.set_driving(_timed(options, stream, directed_driving(options, model, audio)), origin=0)
        sheet = None if options.sheet is None else Sheet(reference, model.fps)
        sound = None if audio is None else audio.again(seconds=start / model.fps)  # at its own place in the file
        try:
            run(stream, options.out, sound, meter, unwatched if sheet is None else sheet.add, options.format)
        except Exception:
            if options.save_state is not None and meter.num_pixel_frames:
                leave_state(stream, options.save_state)
            raise
        if options.save_state is not None:
            stream.save(options.save_state)
        if sheet is not None and meter.num_pixel_frames:
            save_contact_sheet(options.sheet, sheet.pictures)
    return _report(options, meter, interrupted=interrupt.asked)


def settings_of(options: Namespace, model: Model) -> StreamSettings:
    """The model's settings, with those that the user gave."""
    return with_settings(model.settings, **given_settings(options))


def _check(options: Namespace) -> None:
    """Combinations that cannot work."""
    if options.seconds is not None and not 0 < options.seconds <= _MOST_SECONDS:
        raise SettingsError(f"seconds is {options.seconds}; it must be a number above 0 and up to {_MOST_SECONDS:g}")
    if options.controls is not None and options.idle:
        raise SettingsError("--controls and --idle both say what the head does; give one of them")
    check_directing(options)
    given = (options.audio, options.controls, options.text, options.prompt)
    driven = options.idle or drives(options) or options.resume is not None  # whose prompt may drive it
    if all(one is None for one in given) and not driven:
        raise SettingsError("nothing drives the portrait; give --audio, --controls or --idle, or a prompt "
                            "to a model that reads one")  # fmt: skip
    if (options.reference is None) == (options.resume is None):
        raise SettingsError("give --reference to begin a stream, or --resume to go on with a saved one, and not both")
    _check_prompt(options)
    check_written(options)
    if options.resume is not None and (given_settings(options) or options.size is not None):
        given = ["size"] * (options.size is not None) + list(given_settings(options))
        raise SettingsError(f"a saved stream keeps its own settings; leave out {', '.join(given)}")


def _check_prompt(options: Namespace) -> None:
    given = [name for name in ("text", "prompt") if getattr(options, name) is not None]
    if options.resume is not None and given:
        raise SettingsError(f"a saved stream keeps its own prompt; leave out {' and '.join(given)}")
    if len(given) == 2:
        raise SettingsError("--text and --prompt are both given, and both are the prompt; give one of them")
    if options.negative_prompt is not None and options.prompt is None:
        raise SettingsError("--negative-prompt says what the video is led away from; give --prompt as well")
    if (options.prompt is None) != (options.text_encoder is None):
        raise SettingsError("--prompt and --text-encoder go together: words, and the folder of what reads them")


def video_size(model: Model, options: Namespace) -> tuple[int, int]:
    return options.size or (model.preset.height, model.preset.width)


def fitted(picture: Tensor, model: Model, options: Namespace) -> Tensor:
    return fit_image(picture, *video_size(model, options), options.fit)


def _stream(options: Namespace, model: Model, reference: Tensor | None, meter: Meter, interrupt: Interrupt) -> Stream:
    """Begun or resumed; what drives it comes later, when it is known where it stands."""
    nothing, stop = Driving.none(), lambda: interrupt.asked
    since = perf_counter()
    if reference is None:
        stream = resume_stream(model, options.resume, nothing, should_stop=stop)
        if options.threads is not None or stream.threads is None:
            stream.threads = threads_of(options, model, stream.settings, stream.anchor.latent_size)
        meter.stage("resume", since)
        return stream
    settings, size = settings_of(options, model), video_size(model, options)
    threads = threads_of(options, model, settings, latent_size(*size))
    with threads_inside(threads):
        anchor = model.encode_anchor(reference, size=size, **_texts(options, model))
        model.warn_of_reference(reference, anchor=anchor)
    meter.stage("anchor", since)
    stream = open_stream(model, anchor, settings, nothing, options.seed, should_stop=stop)
    stream.threads = threads
    return stream


def threads_of(options: Namespace, model: Model, settings: StreamSettings, size: tuple[int, int]) -> int:
    """Inside operations: what the user says, or what suits the network at this latent size."""
    return choose_threads(model, settings, size) if options.threads is None else options.threads


def _texts(options: Namespace, model: Model) -> dict[str, Tensor | None]:
    """Prompt and negative prompt, [1, T, text_dim], padded with zeros as Wan networks were trained."""
    if options.prompt is None:
        return {"text": None if options.text is None else _stored_text(options, model)}
    encoder = load_text_encoder(options.text_encoder)  # on the processor: needed once, and as large as a network
    negative = None if options.negative_prompt is None else encoder.encode(options.negative_prompt)
    return {"text": encoder.encode(options.prompt), "negative": negative}


def _stored_text(options: Namespace, model: Model) -> Tensor:
    tensors, wanted = list(read_stored(options.text, header_only=False).tensors.values()), model.config.text_dim
    if len(tensors) != 1 or not tensors[0].numel() or tensors[0].numel() % wanted or tensors[0].shape[-1] != wanted:
        shapes = ", ".join(str(list(tensor.shape)) for tensor in tensors[:3])
        raise SettingsError(f"{options.text} holds tensors of shape {shapes}; wanted one, [tokens, {wanted}]")
    return padded(tensors[0].reshape(1, -1, wanted))


def _timed(options: Namespace, stream: Stream, driving: Driving) -> Driving:
    """The driving with the length that was asked for, from the stream's beginning on."""
    fps, start = stream.model.fps, first_pixel_frame(stream.plan.start)
    if options.seconds is None:
        end = driving.end_within(start)
    else:
        end = start + max(1, round(options.seconds * fps))
        driving = driving.lasting(end)
    if end is not None and end <= start:
        raise KnotError(f"the saved stream stands at {start / fps:.2f} s and what drives it ends at {end / fps:.2f} s; "
                        "give --seconds to go on")  # fmt: skip
    if options.save_state is not None:
        driving = driving.in_whole_chunks(stream.plan.start, stream.settings.num_chunk_frames)
        end = driving.num_pixel_frames
        at = "" if end is None else f" at {end / fps:.2f} s"
        logger.info("the video ends%s with a whole chunk, so that the saved stream joins it", at)
    return driving


def _report(options: Namespace, meter: Meter, *, interrupted: bool) -> int:
    if interrupted:
        made = f"{options.out} holds the {meter.num_pixel_frames / meter.model.fps:.2f} s that were made"
        logger.warning("stopped: %s", made if meter.num_pixel_frames else "nothing was made yet")
    line = json.dumps(meter.figures())
    if options.stats is not None:
        try:
            options.stats.parent.mkdir(parents=True, exist_ok=True)
            options.stats.write_text(line + "\n", encoding="utf-8")
        except OSError as problem:
            raise MediaError(f"the figures cannot be written to {options.stats} ({problem.strerror}); "
                             f"they are {line}") from problem  # fmt: skip
    sys.stdout.write(line + "\n")
    return INTERRUPTED if interrupted else 0
