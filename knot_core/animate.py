"""The commands that generate: `animate` and `bench`."""

import json
import logging
import math
import signal
import sys
import tempfile
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from time import perf_counter
from types import FrameType

import torch
from torch import Tensor
from tqdm import tqdm

from .bench import Meter
from .bench.command import asks_for_engine, bench_engine
from .bench.models import some_driving
from .config import StreamSettings
from .directing import check_directing, directed_driving, drives
from .driving import Driving
from .errors import KnotError, MediaError, SettingsError
from .geometry import SPATIAL, first_pixel_frame, whole_chunks
from .media import AudioFile, SoundTrack, VideoWriter, fit_image, open_audio, open_image, save_contact_sheet
from .model import ASSETS, Model
from .options import given_settings
from .stream import Chunk, Stream, leave_state, open_stream, resume_stream
from .stream.decode import to_uint8
from .text import NUM_TEXT_TOKENS, load_text_encoder, padded
from .wan.families import with_settings
from .wan.reading import read_stored

logger = logging.getLogger(__name__)

INTERRUPTED = 130  # what a shell expects of a command that Ctrl-C ended
_MOST_TILES = 240  # of a contact sheet: two minutes


class Interrupt:
    """The first Ctrl-C asks to stop, the second one stops."""

    def __init__(self) -> None:
        self.asked = False

    def __enter__(self) -> "Interrupt":
        self._before = {number: signal.signal(number, self._ask) for number in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _ask(self, _number: int, _frame: FrameType | None) -> None:
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True


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
    audio = None if options.audio is None else open_audio(options.audio)
    reference = None if options.resume else _fitted(open_image(options.reference), model, options)
    with Interrupt() as interrupt:
        stream = _stream(options, model, reference, meter, interrupt)
        start = first_pixel_frame(stream.plan.start)
        stream.set_driving(_timed(options, stream, directed_driving(options, model, audio)), origin=0)
        sheet = None if options.sheet is None else Sheet(reference, model.fps)
        del audio  # the driving has heard it, and the video reads it piece by piece: hours of it need not be held
        sound = None if options.audio is None else AudioFile(options.audio, seconds=start / model.fps)
        try:
            run(stream, options.out, sound, meter, _unwatched if sheet is None else sheet.add)
        except Exception:
            if options.save_state is not None and meter.num_pixel_frames:
                leave_state(stream, options.save_state)
            raise
        if options.save_state is not None:
            stream.save(options.save_state)
        if sheet is not None and meter.num_pixel_frames:
            save_contact_sheet(options.sheet, sheet.pictures)
    return _report(options, meter, interrupted=interrupt.asked)


def run(stream: Stream, path: Path, audio: SoundTrack | None, meter: Meter, watch: Callable[[Chunk], None]) -> None:
    """Stream into a file, chunk by chunk, with a progress bar."""
    height, width = (SPATIAL * size for size in stream.anchor.latent_size)
    end, start = stream.num_pixel_frames, first_pixel_frame(stream.plan.start)
    bar = tqdm(total=None if end is None else end - start, unit=" frames", desc=path.name, dynamic_ncols=True)
    writer = None
    try:
        for chunk in stream:
            since = perf_counter()
            # not before there is something to write: a file of that name is not lost to a mistake
            writer = writer or VideoWriter(path, width=width, height=height, fps=meter.model.fps, audio=audio)
            writer.write(chunk.pixel_frames)
            meter.stage("write", since)
            meter.chunk(chunk)
            watch(chunk)
            bar.update(len(chunk.pixel_frames))
    finally:
        since = perf_counter()
        if writer is not None:
            writer.close()
        meter.stage("write", since)
        meter.end()
        bar.close()


def _unwatched(_chunk: Chunk) -> None:
    """Nobody gathers pictures."""


def bench(options: Namespace, load: Callable[[], Model]) -> int:
    """Stream a sample portrait that idles, and say where the time goes; or measure the engine alone."""
    if asks_for_engine(options):
        return bench_engine(options, load, given_settings(options))
    if options.chunks < 1:
        raise SettingsError(f"chunks is {options.chunks}; it must be at least 1")
    model = load()
    settings = settings_of(options, model)
    meter = Meter(model=model)
    pictures = sorted((ASSETS / "portraits").glob("*.png"))
    picture = open_image(pictures[0]) if pictures else torch.full((128, 128, 3), 0.5)
    options.fit = "crop"
    with Interrupt() as interrupt, tempfile.TemporaryDirectory() as folder:
        since = perf_counter()
        nothing_said = torch.zeros(1, NUM_TEXT_TOKENS, model.config.text_dim) if model.preset.needs_text else None
        anchor = model.encode_anchor(_fitted(picture, model, options), size=_size(model, options), text=nothing_said)
        meter.stage("anchor", since)
        driving = some_driving(model, first_pixel_frame(options.chunks * settings.num_chunk_frames))
        stream = open_stream(model, anchor, settings, driving, should_stop=lambda: interrupt.asked)
        run(stream, options.out or Path(folder) / "bench.mp4", None, meter, _unwatched)
    sys.stderr.write(meter.table() + "\n")
    stages = {name: round(seconds, 4) for name, seconds in meter.stages.items()}
    sys.stdout.write(json.dumps(meter.figures() | {"seconds": round(meter.seconds, 4), "stages": stages}) + "\n")
    return INTERRUPTED if interrupt.asked else 0


def settings_of(options: Namespace, model: Model) -> StreamSettings:
    """The model's settings, with those that the user gave."""
    return with_settings(model.settings, **given_settings(options))


def _check(options: Namespace) -> None:
    """Combinations that cannot work."""
    if options.seconds is not None and not (0 < options.seconds < math.inf):
        raise SettingsError(f"seconds is {options.seconds}; it must be a number above 0")
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
    if options.resume is not None and (given_settings(options) or options.size is not None):
        given = ["size"] * (options.size is not None) + list(given_settings(options))
        raise SettingsError(f"a saved stream keeps its own settings; leave out {', '.join(given)}")


def _check_prompt(options: Namespace) -> None:
    given = [name for name in ("text", "prompt") if getattr(options, name) is not None]
    if options.resume is not None and given:
        raise SettingsError(f"a saved stream keeps its own prompt; leave out {' and '.join(given)}")
    if len(given) == 2:
        raise SettingsError("--text and --prompt are both given, and both are the prompt; give one of them")
    if (options.prompt is None) != (options.text_encoder is None):
        raise SettingsError("--prompt and --text-encoder go together: words, and the folder of what reads them")


def _size(model: Model, options: Namespace) -> tuple[int, int]:
    return options.size or (model.preset.height, model.preset.width)


def _fitted(picture: Tensor, model: Model, options: Namespace) -> Tensor:
    return fit_image(picture, *_size(model, options), options.fit)


def _stream(options: Namespace, model: Model, reference: Tensor | None, meter: Meter, interrupt: Interrupt) -> Stream:
    """Begun or resumed; what drives it comes later, when it is known where it stands."""
    nothing, stop = Driving.none(), lambda: interrupt.asked
    since = perf_counter()
    if reference is None:
        stream = resume_stream(model, options.resume, nothing, should_stop=stop)
        meter.stage("resume", since)
        return stream
    settings = settings_of(options, model)
    anchor = model.encode_anchor(reference, size=_size(model, options), text=_text(options, model))
    meter.stage("anchor", since)
    return open_stream(model, anchor, settings, nothing, options.seed, should_stop=stop)


def _text(options: Namespace, model: Model) -> Tensor | None:
    """[1, T, text_dim]: the prompt, padded with zeros as Wan networks were trained."""
    if options.prompt is not None:  # on the processor: it is needed once, and as large as a network
        return load_text_encoder(options.text_encoder).encode(options.prompt)
    if options.text is None:
        return None
    tensors, wanted = list(read_stored(options.text, header_only=False).tensors.values()), model.config.text_dim
    if len(tensors) != 1 or not tensors[0].numel() or tensors[0].numel() % wanted or tensors[0].shape[-1] != wanted:
        shapes = ", ".join(str(list(tensor.shape)) for tensor in tensors[:3])
        raise SettingsError(f"{options.text} holds tensors of shape {shapes}; wanted one, [tokens, {wanted}]")
    return padded(tensors[0].reshape(1, -1, wanted))


def _timed(options: Namespace, stream: Stream, driving: Driving) -> Driving:
    """The driving with the length that was asked for, from the stream's beginning on."""
    fps, start = stream.model.fps, first_pixel_frame(stream.plan.start)
    end = driving.num_pixel_frames if options.seconds is None else start + max(1, round(options.seconds * fps))
    if end is None:
        return driving
    if end <= start:
        raise KnotError(f"the saved stream stands at {start / fps:.2f} s and what drives it ends at {end / fps:.2f} s; "
                        "give --seconds to go on")  # fmt: skip
    if options.save_state is not None:
        end = whole_chunks(stream.plan.start, stream.settings.num_chunk_frames, end)
        logger.info("the video ends at %.2f s with a whole chunk, so that the saved stream joins it", end / fps)
    return driving.lasting(end)


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
