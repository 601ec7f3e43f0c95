"""The command `animate`."""

import json
import logging
import math
import sys
from argparse import Namespace
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from time import perf_counter

from torch import Tensor
from tqdm import tqdm

from ..config import StreamSettings
from ..driving import Driving
from ..errors import MediaError, SettingsError
from ..geometry import first_pixel_frame
from ..media import AudioFile, SoundTrack, open_image, open_writer, save_contact_sheet
from ..media.paste_back import PasteBack, even_sided
from ..media.reference_crop import ReferenceCrop, crop_reference, is_aligned
from ..model import Model
from ..run import LateFile, Run, StreamLog, StreamStats, length_of, write_chunks
from ..stream import Chunk, Snapshot, begin_stream, continue_stream, leave_state, load_stream
from ..stream.decode import to_uint8
from ..text import load_text_encoder, padded
from ..threads import threads_inside
from ..wan.preset import with_settings
from ..wan.reading import read_stored
from .driving_options import check_directing, directed_driving, drives
from .interrupt import INTERRUPTED, Interrupt
from .options import given_settings
from .outputs import check_written

logger = logging.getLogger(__name__)

_MOST_SECONDS = 1e8  # three years
_MOST_TILES = 240  # of a contact sheet: two minutes


class ContactSheet:
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
    log = StreamLog(fps=model.fps, device=model.device, dtype=model.dtype)
    opened = nullcontext() if options.audio is None else closing(AudioFile(options.audio))
    with Interrupt() as interrupt, opened as audio:
        whole = None if options.resume else open_image(options.reference)
        crop = None if whole is None else cropped(whole, model, options)
        reference = None if crop is None else crop.picture
        saved = _resumed(options, model, log) if reference is None else _begun(options, model, reference, log)
        paste = _pasting(whole, crop) if options.paste_back else None
        run = _run(options, model, saved, directed_driving(options, model, audio), log, interrupt)
        sheet = None if options.sheet is None else ContactSheet(reference, model.fps)
        start = first_pixel_frame(saved.state.clock.start) / model.fps  # of the sound too, which lasts as the stream
        try:
            write_video(run, options.out, None if audio is None else audio.again(seconds=start), options.format,
                        None if sheet is None else sheet.add, paste)  # fmt: skip
        except Exception:
            if options.save_state is not None and run.num_made:
                leave_state(run.stream, options.save_state)
            raise
        if options.save_state is not None:
            run.stream.save(options.save_state)
        if sheet is not None and run.num_made:
            save_contact_sheet(options.sheet, sheet.pictures)
    return _report(options, log.freeze(), interrupted=interrupt.asked)


def write_video(
    run: Run,
    path: Path,
    sound: SoundTrack | None,
    video_format: str | None,
    watch: Callable[[Chunk], None] | None = None,
    shown: Callable[[Tensor], Tensor] | None = None,
) -> None:
    """A run into a file, chunk by chunk, with a progress bar; `video_format` None: the one that the suffix names.

    `shown` makes of frames uint8 [T, h, w, 3] those that are written.
    """
    opened = partial(open_writer, path, audio=sound, video_format=video_format)
    with progress_bar(run, path.name, sound) as bar, closing(LateFile(run, opened, shown)) as file:

        def after(chunk: Chunk) -> bool:
            if watch is not None:
                watch(chunk)
            bar.update(len(chunk.pixel_frames))
            return True

        write_chunks(run, file, after)


@contextmanager
def progress_bar(run: Run, name: str, sound: SoundTrack | None) -> Iterator[tqdm]:
    """For the bar alone a length is expected: how long a file's sound truly is turns out where it ends."""
    total = run.num_pixel_frames
    if total is None and isinstance(sound, AudioFile) and sound.expected_seconds is not None:
        end = math.ceil(sound.expected_seconds * run.model.fps)
        total = end - first_pixel_frame(run.stream.plan.start)
    with tqdm(total=total, unit=" frames", desc=name, dynamic_ncols=True) as bar:
        yield bar


def settings_of(options: Namespace, model: Model) -> StreamSettings:
    """The model's settings, with those that the user gave."""
    return with_settings(model.settings, **given_settings(options))


def _check(options: Namespace) -> None:
    """Combinations that cannot work."""
    if options.seconds is not None and not 0 < options.seconds <= _MOST_SECONDS:
        raise SettingsError(f"seconds is {options.seconds}; it must be a number above 0 and up to {_MOST_SECONDS:g}")
    if options.controls is not None and options.idle:
        raise SettingsError("--controls and --idle both set the motion of the head; give one of them")
    check_directing(options)
    given = (options.audio, options.controls, options.text, options.prompt)
    driven = options.idle or drives(options) or options.resume is not None  # whose prompt may drive it
    if all(one is None for one in given) and not driven:
        raise SettingsError("nothing drives the portrait; give --audio, --controls or --idle, or a prompt "
                            "to a model that reads one")  # fmt: skip
    if (options.reference is None) == (options.resume is None):
        raise SettingsError("give --reference to begin a stream, or --resume to go on with a saved one, and not both")
    _check_prompt(options)
    _check_picture(options)
    check_written(options)
    if options.resume is not None and (given_settings(options) or options.size is not None):
        given = ["size"] * (options.size is not None) + list(given_settings(options))
        raise SettingsError(f"a saved stream keeps its own settings; leave out {', '.join(given)}")


def _check_picture(options: Namespace) -> None:
    given = [name for name in ("points", "paste_back") if getattr(options, name)]
    given += ["detail"] * (options.detail != 1)
    if options.resume is not None and given:
        names = " and ".join("--" + name.replace("_", "-") for name in given)
        raise SettingsError(f"a saved stream has its reference, but not the whole picture; leave out {names}")


def _check_prompt(options: Namespace) -> None:
    given = [name for name in ("text", "prompt") if getattr(options, name) is not None]
    if options.resume is not None and given:
        raise SettingsError(f"a saved stream keeps its own prompt; leave out {' and '.join(given)}")
    if len(given) == 2:
        raise SettingsError("--text and --prompt are both given, and both are the prompt; give one of them")
    if options.negative_prompt is not None and options.prompt is None:
        raise SettingsError("--negative-prompt is used together with a prompt; give --prompt as well")
    if (options.prompt is None) != (options.text_encoder is None):
        raise SettingsError("--prompt and --text-encoder go together: the words, and the folder of the text encoder")


def video_size(model: Model, options: Namespace) -> tuple[int, int]:
    return options.size or (model.preset.height, model.preset.width)


def cropped(picture: Tensor, model: Model, options: Namespace) -> ReferenceCrop:
    """The reference in a picture [H, W, 3] in 0..1: aligned where the model or an option asks for it, else fitted."""
    points = " ".join(options.points or ())
    aligned = is_aligned(options.align, points, by_family=model.preset.aligns_faces)
    model.check_detail(options.detail)
    height, width = (options.detail * side for side in video_size(model, options))
    crop = crop_reference(picture, (height, width), fit=options.fit, aligned=aligned, points=points)
    if crop.said:
        logger.info("%s", crop.said)
    return crop


def _pasting(picture: Tensor, crop: ReferenceCrop) -> Callable[[Tensor], Tensor]:
    paste = PasteBack(picture, crop.placement)
    return lambda frames: even_sided(paste(frames))


def _begun(options: Namespace, model: Model, reference: Tensor, log: StreamLog) -> Snapshot:
    """The state before the first chunk of a new stream."""
    settings, size = settings_of(options, model), video_size(model, options)
    since = perf_counter()
    with threads_inside(model.threads_for(settings, model.latent_size(*size))):
        anchor = model.encode_anchor(reference, size=size, detail=options.detail, **_texts(options, model))
        model.warn_of_reference(reference, anchor=anchor)
    log.book("anchor", since)
    return begin_stream(model, anchor, settings, options.seed)


def _resumed(options: Namespace, model: Model, log: StreamLog) -> Snapshot:
    """The state of a saved stream, whose driving begins where the stream did."""
    since = perf_counter()
    saved = load_stream(options.resume, model)
    log.book("resume", since)
    return replace(saved, state=replace(saved.state, driving_origin=0))


def _run(options: Namespace, model: Model, saved: Snapshot, driving: Driving, log: StreamLog,
         interrupt: Interrupt) -> Run:  # fmt: skip
    """A run from a state to the end of the driving, or of the requested seconds."""
    saving = options.save_state is not None
    length = length_of(saved, driving, model.fps, options.seconds, whole_chunks=saving, remedy="give --seconds")
    if saving:
        end = length.driving.num_pixel_frames
        at = "" if end is None else f" at {end / model.fps:.2f} s"
        logger.info("the video ends%s with a whole chunk, so that the saved stream continues without a gap", at)
    stream = continue_stream(model, saved, length.driving, should_stop=lambda: interrupt.asked)
    stream.threads = model.threads_for(saved.settings, saved.anchor.latent_size, as_before=stream.threads)
    return Run(stream, length.num_pixel_frames, log)


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


def _report(options: Namespace, stats: StreamStats, *, interrupted: bool) -> int:
    if interrupted:
        made = f"{options.out} holds the {stats.num_pixel_frames / stats.fps:.2f} s that were made"
        logger.warning("stopped: %s", made if stats.num_pixel_frames else "nothing was made yet")
    line = json.dumps(stats.summary())
    if options.stats is not None:
        try:
            options.stats.parent.mkdir(parents=True, exist_ok=True)
            options.stats.write_text(line + "\n", encoding="utf-8")
        except OSError as problem:
            raise MediaError(f"the figures cannot be written to {options.stats} ({problem.strerror}); "
                             f"they are {line}") from problem  # fmt: skip
    sys.stdout.write(line + "\n")
    return INTERRUPTED if interrupted else 0
