"""The conditions of a stream's next chunk, and changes to them while the stream runs.

Shapes: B batch (of one), T text tokens, D text dim.
"""

from dataclasses import fields, replace
from threading import RLock

import torch
from torch import Tensor

from ..config import StreamSettings
from ..errors import SettingsError, listed
from .anchor import Anchor, denoiser_of
from .chunk_stages import Ahead, Begun
from .committing import KEEP_SINKS, RENEW_SINKS, check_recache, stronger
from .conditioning import Conditioning
from .denoise import Denoiser
from .guidance import check_steps
from .plan import ChunkPlan, Clock, clock_anew, plan_chunk
from .reference_pictures import References
from .snapshot import Snapshot, StreamState, anew
from .stream_model import StreamDriving, StreamModel, driven
from .timing import mark

CHANGEABLE = ("num_chunk_frames", "run_ahead_stride", "run_ahead_start", "steps", "shift", "timesteps",
              "first_timesteps", "sigma_table", "sampler", "fusion")  # fmt: skip


class Changeable:
    """A stream's settings, anchor, prompt and driving. What is set holds from the next chunk on that has not begun.

    It may be set from any thread, also while a chunk is drawn: that one goes on as it began, or is abandoned.
    """

    def __init__(self, model: StreamModel, snapshot: Snapshot, driving: StreamDriving) -> None:
        check_steps(snapshot.settings, model)
        self.model, self.anchor, self.settings = model, snapshot.anchor, snapshot.settings
        self.conditioning = snapshot.conditioning
        self.state, self._driving, self.origin = snapshot.state, driven(model, driving), snapshot.state.driving_origin
        self.recache = snapshot.state.recache  # of the next chunk that has not begun
        self.ahead: Ahead | None = None  # who draws its chunks ahead (stream/drawn_ahead.py), as long as somebody does
        self.references = References(model.codec)  # as its decoder has read them
        self.lock = RLock()  # of what the next chunk begins with, and of the window
        self._setting = RLock()  # one change after the other
        self._cut = self._changed = False  # whether the next chunk begins the stream anew; or does if it is the first
        self._denoiser, self._anchors = denoiser_of(model, self.anchor, self.conditioning, self.settings)

    @property
    def plan(self) -> ChunkPlan:
        """The chunk that comes next."""
        clock = self.state.clock
        return self._plan_at(clock_anew(self.settings, clock) if self.begins_anew else clock)

    def _plan_at(self, clock: Clock) -> ChunkPlan:
        return plan_chunk(self.settings, clock)

    @property
    def begins_anew(self) -> bool:
        """Whether the next chunk begins the stream anew, from the settings and the anchor that are set now."""
        return self._cut or (self._changed and not self.state.clock.num_committed)

    def set_driving(self, driving: StreamDriving, *, origin: int | None = None) -> None:
        """Drive by something else from the next chunk on that has not begun; for between two chunks.

        It starts to play there, unless `origin` names another latent frame of the stream as its beginning: 0 for a
        driving that shares the stream's own time.

        Raises:
            SettingsError: `origin` is negative or lies behind the next chunk's first frame.
        """
        driving = driven(self.model, driving)
        with self.lock:
            start = self.state.clock.start if self.ahead is None else self.ahead.next_clock.start
            origin = start if origin is None else origin
            if not 0 <= origin <= start:
                raise SettingsError(
                    f"origin is {origin}; it must be between 0 and the next chunk's first frame, {start}"
                )
            self._driving, self.origin = driving, origin

    @torch.no_grad()
    def set_text(self, text_BTD: Tensor, *, recache: bool = False, keep_sinks: bool = True) -> None:
        """Another prompt from the next chunk on that has not begun, saved with the stream.

        `recache`: what that chunk sees of those before it is computed again under the new prompt, which so takes hold
        sooner (LongLive); sinks of a stream that has gone on stay as they were, unless `keep_sinks` is off.

        Raises:
            SettingsError: the prompt's shape is not the model's, or the window cannot be computed again.
        """
        if recache and not self.begins_anew:
            check_recache(self.settings, self.state.recent_BFCHW, self.state.clock)
        asked = (KEEP_SINKS if keep_sinks else RENEW_SINKS) if recache else ""
        with self._setting:
            conditioning = self.conditioning.with_text(self.model, text_BTD)
            renewed = Denoiser.of(self.model, conditioning.text_BTD, image_BTE=conditioning.image_BTE)
            with self.lock:
                self.conditioning, self._denoiser = conditioning, self._denoiser.under(renewed.context)
                self.recache = stronger(self.recache, asked)

    @torch.no_grad()
    def set_anchor(self, anchor: Anchor, *, cut: bool = False) -> None:
        """Another reference from the next chunk on that has not begun, saved with the stream.

        Without `cut` window, knot and decoder memory stay, so that the one grows out of the other over some chunks; of
        a codec that copies pixels from the reference, what both pictures give is cross-faded over the next chunk.
        With it they are dropped: the next chunk begins the stream anew, from the reference where `start_from_reference`
        is set, while frames, random numbers and driving are counted on. A stream that has committed nothing begins from
        the new reference either way.

        The anchor's own prompts come with it, unless the stream was told another prompt than its last anchor's: then
        that one stays. The reference's CLIP tokens are always the new ones.

        Raises:
            SettingsError: the anchor is of another size or model, or of no picture; or `cut` is asked of a stream whose
                chunks are drawn ahead.
        """
        with self._setting:
            check_anchor(self.settings, self.anchor, anchor)
            anchor = anchor.on(self.model.device)
            conditioning = told_under(self.conditioning, self.anchor, anchor)
            denoiser, anchors = denoiser_of(self.model, anchor, conditioning, self.settings)
            with self.lock:
                if cut and self.ahead is not None:
                    raise SettingsError(
                        "a cut is asked of a stream whose chunks are drawn ahead by pipelined(), where the window "
                        "before it is still needed; close it first, or set the anchor without cut"
                    )
                self.anchor, self.conditioning, self._denoiser, self._anchors = anchor, conditioning, denoiser, anchors
                self._cut, self._changed = self._cut or cut, True

    def set_settings(self, settings: StreamSettings) -> None:
        """Other settings from the next chunk on that has not begun, saved with the stream.

        All of them are given; those in `CHANGEABLE` may differ. Chunks may become shorter, which takes no memory, and
        longer: the cache is then made larger when such a chunk begins, which raises `SettingsError` where there is no
        memory for both. `run_ahead_start` and `first_timesteps` hold where a stream begins, or begins anew.

        Raises:
            SettingsError: another setting differs, a setting cannot change with this commit, or the sampler cannot be
                had.
        """
        with self._setting:
            check_change(self.settings, settings)
            check_steps(settings, self.model)
            with self.lock:
                self.settings, self._changed = settings, True

    def begin(self, state: StreamState) -> Begun:
        """The chunk after `state`, under what is set now."""
        with self.lock:
            asked, self.recache = self.recache, ""
            self._driving = ending_with_chunks(self._driving, state.clock.start - self.origin, self.settings)
            return Begun(
                plan=self._plan_at(state.clock),
                state=replace(state, driving_origin=self.origin, recache=asked),
                settings=self.settings,
                anchors=self._anchors,
                conditioning=self.conditioning,
                denoiser=self._denoiser,
                driving=self._driving,
                mark=mark(self.model.device),
            )


def change_anchor(saved: Snapshot, anchor: Anchor, *, cut: bool = False) -> Snapshot:
    """The state with another reference, as `Stream.set_anchor` sets it.

    Raises:
        SettingsError: the anchor is of another size or model, or of no picture.
    """
    check_anchor(saved.settings, saved.anchor, anchor)
    changed = replace(saved, anchor=anchor, conditioning=told_under(saved.conditioning, saved.anchor, anchor))
    return anew(changed) if cut or not saved.state.clock.num_committed else changed


def change_settings(saved: Snapshot, settings: StreamSettings) -> Snapshot:
    """The state with other settings, as `Stream.set_settings` sets them.

    Raises:
        SettingsError: a setting differs that cannot change.
    """
    check_change(saved.settings, settings)
    changed = replace(saved, settings=settings)
    return changed if saved.state.clock.num_committed else anew(changed)


def ending_with_chunks(driving: StreamDriving, start: int, settings: StreamSettings) -> StreamDriving:
    """The same; one that ends where a chunk does, with one of the length that chunks have now, from `start` on."""
    chunks = getattr(driving, "chunks", None)
    if chunks is None or chunks[1] == settings.num_chunk_frames:
        return driving
    return driving.in_whole_chunks(start, settings.num_chunk_frames)


def told_under(told: Conditioning, was: Anchor, now: Anchor) -> Conditioning:
    """The stream's conditioning once it has another anchor: see `Changeable.set_anchor`."""
    own = now.conditioning
    if was.made_under(told):
        return own
    negative = told.negative_BTD if own.negative_BTD is None else own.negative_BTD
    return replace(told, image_BTE=own.image_BTE, negative_BTD=negative)


def check_anchor(settings: StreamSettings, was: Anchor, now: Anchor) -> None:
    """SettingsError where a stream of one anchor cannot go on with the other."""
    if now.model != was.model:
        raise SettingsError("the anchor was encoded by another model, or in another dtype; encode the reference again")
    if (now.latent_size, now.video_size) != (was.latent_size, was.video_size):
        sizes = [f"{width} x {height}" for height, width in (now.video_size, was.video_size)]
        raise SettingsError(
            f"the anchor's picture has {sizes[0]} pixels and the stream {sizes[1]}; encode the reference in the "
            "stream's size, with the stream's detail"
        )
    if not now.has_picture and (settings.use_anchor or settings.start_from_reference):
        raise SettingsError("the anchor has no picture, and the stream looks at one; encode a reference picture")


def check_change(was: StreamSettings, now: StreamSettings) -> None:
    """SettingsError where a stream cannot go on with other settings."""
    changed = [field.name for field in fields(now) if getattr(was, field.name) != getattr(now, field.name)]
    fixed = [name for name in changed if name not in CHANGEABLE]
    if fixed:
        raise SettingsError(
            f"{listed(fixed)} cannot change while a stream runs, {', '.join(CHANGEABLE)} can; open another "
            "stream for it"
        )
    if "num_chunk_frames" in changed and now.commit == "in_place":
        raise SettingsError(
            f"num_chunk_frames cannot change from {was.num_chunk_frames} to {now.num_chunk_frames} while a stream runs "
            "whose commit is in_place, since its window is written over in whole chunks; open another stream for it"
        )
