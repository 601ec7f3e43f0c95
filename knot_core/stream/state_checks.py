"""Whether a stored state can be a stream's of this model, before anything is computed with it.

What passes here streams. A file that somebody else made, or that a disc has damaged, does not get further.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from ..config import StreamSettings
from ..errors import StateError, listed
from ..geometry import PATCH, num_tokens
from ..wan.branches import branches
from .anchor import Anchor
from .committing import KEEP_SINKS, RENEW_SINKS
from .conditioning import TimedPrompts
from .reference_pictures import ChunkDecoding, References, ShownReference, has_detail
from .snapshot import Snapshot
from .stream_model import DecoderMemory, StreamModel, latent_dtype, num_points, wants_reference

_MOST_COUNTED = 2**48  # latent frames: more than a million years
_MOST_THREADS = 4096
Checked = Iterator[tuple[str, bool]]  # what was looked at, and whether it is right


def check_state(saved: Snapshot, model: StreamModel, path: str | os.PathLike[str]) -> None:
    """`StateError` where numbers, shapes or values cannot be a stream's of this model: a stranger's file, or damage."""
    for found in (_counts, _shapes, _values):
        wrong = list(dict.fromkeys(name for name, right in found(saved, model) if not right))
        if wrong:
            raise StateError(f"{path} is damaged: {listed(wrong)} cannot be a stream's; save the stream again")


def _counts(saved: Snapshot, model: StreamModel) -> Checked:  # noqa: ARG001 - as the others
    """Check the integers."""
    settings, index, clock = saved.settings, saved.window_index, saved.state.clock
    counts = {**vars(clock), **vars(index), "driving_origin": saved.state.driving_origin}
    are_counts = {name: type(count) is int and 0 <= count < _MOST_COUNTED for name, count in counts.items()}
    yield from are_counts.items()
    if all(are_counts.values()):
        yield "clock", clock.start >= saved.state.driving_origin
        yield "clock", clock.chunk <= clock.start and index.num_committed == clock.num_committed >= 0
        yield "clock", settings.commit != "in_place" or index.num_committed % settings.num_chunk_frames == 0
        yield "window", (index.capacity, index.num_sinks) == (settings.num_ring_frames, settings.num_sink_frames)
    yield "recache", saved.state.recache in ("", KEEP_SINKS, RENEW_SINKS)
    threads = saved.state.threads
    yield "threads", threads is None or (type(threads) is int and 1 <= threads <= _MOST_THREADS)
    yield "anchor", isinstance(saved.anchor.digest, str)


def _shapes(saved: Snapshot, model: StreamModel) -> Checked:
    """Check shapes and dtypes."""
    anchor, state, config, settings = saved.anchor, saved.state, model.config, saved.settings
    of_latents = latent_dtype(model)
    latent = tuple(anchor.reference_BFCHW.shape)
    yield "reference", len(latent) == 5 and latent[:3] == (1, 1, config.out_channels) and min(latent) > 0
    if len(latent) != 5:
        return
    yield "reference", not any(side % PATCH for side in latent[-2:])
    tokens = num_tokens(*latent[-2:])
    sizes = (tokens, config.num_heads, config.head_dim)
    yield "keys", _all_of(anchor.keys, config.num_layers, (1, *sizes), model.dtype)
    yield "values", _all_of(anchor.values, config.num_layers, (1, *sizes), model.dtype)
    window = (2, 1, saved.window_index.num_valid * tokens, *sizes[1:])
    cached_layers = config.num_layers * len(branches(settings, config))
    begun = saved.window_index.num_committed > 0
    yield "cache", _all_of(saved.window, cached_layers, window, model.dtype) or not (begun or saved.window)
    sinks = _sinks_like(settings, sizes, model.dtype)
    yield "sinks", not saved.sinks or _all_of(saved.sinks, cached_layers, *sinks)
    num_known = settings.num_knot_frames if begun else int(settings.start_from_reference)
    knot = None if state.knot_BMCHW is None else tuple(state.knot_BMCHW.shape)
    yield "knot", knot == ((1, num_known, *latent[2:]) if num_known else None) or (begun and knot is None)  # dropped
    told, grey = saved.conditioning, anchor.grey_BGCHW
    yield "prompt", _is_sequence(told.text_BTD, config.text_dim)
    yield "image", told.image_BTE is None or _is_sequence(told.image_BTE, config.image_dim)
    yield "negative prompt", told.negative_BTD is None or _is_sequence(told.negative_BTD, config.text_dim)
    yield "prompts", _are_prompts(told.prompts, config.text_dim)
    yield "grey latents", grey is None or (grey.dim() == 5 and grey.shape == (1, max(1, grey.shape[1]), *latent[2:]))
    yield "recent latents", _recent_fits(saved, latent)
    wanted = wants_reference(model.codec)
    num = num_points(model.codec)
    yield "picture", anchor.shown is None if not wanted else _is_shown(anchor.shown, anchor, num)
    yield "picture", state.shown is None or (wanted and _is_shown(state.shown, anchor, num))
    yield "landmarks", anchor.landmarks_L2 is None or wanted
    latents = (anchor.reference_BFCHW, told.text_BTD, told.image_BTE, anchor.grey_BGCHW, state.knot_BMCHW)
    latents += (state.recent_BFCHW, told.negative_BTD)
    yield "dtypes", all(tensor is None or tensor.dtype == of_latents for tensor in latents)


def _values(saved: Snapshot, model: StreamModel) -> Checked:
    """Check the values in the tensors."""
    anchor, told, state = saved.anchor, saved.conditioning, saved.state
    yield "random state", _sets_a_generator(state.rng_state)
    parts = {
        "reference": (anchor.reference_BFCHW,),
        "prompt": (told.text_BTD,),
        "prompts": () if told.prompts is None else told.prompts.texts_BTD or (),
        "image": () if told.image_BTE is None else (told.image_BTE,),
        "keys": anchor.keys,
        "values": anchor.values,
        "cache": saved.window,
        "sinks": saved.sinks,
        "knot": () if state.knot_BMCHW is None else (state.knot_BMCHW,),
        "grey latents": () if anchor.grey_BGCHW is None else (anchor.grey_BGCHW,),
        "negative prompt": () if told.negative_BTD is None else (told.negative_BTD,),
        "recent latents": () if state.recent_BFCHW is None else (state.recent_BFCHW,),
        "picture": () if state.shown is None else (state.shown.latents_BFCHW,),
        "decoder": state.decoder_memory or (),
    }
    finite = {name: all(bool(tensor.isfinite().all()) for tensor in tensors) for name, tensors in parts.items()}
    yield from finite.items()
    if all(finite.values()):
        yield "decoder", (state.decoder_memory is not None) == (state.clock.num_committed > 0)
        yield "decoder", state.decoder_memory is None or _decodes(model, saved, state.decoder_memory)


def _all_of(tensors: Sequence[Tensor], count: int, shape: Sequence[int], dtype: torch.dtype) -> bool:
    return len(tensors) == count and all(
        tuple(tensor.shape) == tuple(shape) and tensor.dtype == dtype for tensor in tensors
    )


def _sinks_like(
    settings: StreamSettings, sizes: Sequence[int], dtype: torch.dtype
) -> tuple[Sequence[int], torch.dtype]:
    """Shape and dtype in which `Sinks` keeps a layer: keys as they were, or keys and values where they fade."""
    tokens, *rest = sizes
    fade = settings.sink_decay < 1
    kept = torch.promote_types(dtype, torch.float32) if fade else dtype
    return (2 if fade else 1, 1, settings.num_sink_frames * tokens, *rest), kept


def _recent_fits(saved: Snapshot, latent: Sequence[int]) -> bool:
    """Files from before they were kept have none; without them nothing can be computed anew."""
    recent, settings, settled = saved.state.recent_BFCHW, saved.settings, saved.window_index.num_committed
    if recent is None:
        return settings.commit != "recompute" or not settled
    shape = tuple(recent.shape)  # kept with longer chunks they may be more than are kept now
    return len(shape) == 5 and shape == (1, shape[1], *latent[2:]) and 0 < shape[1] <= settled


def _is_sequence(tensor: Tensor, width: int | None) -> bool:
    return tensor.dim() == 3 and tensor.shape[0] == 1 and tensor.shape[1] > 0 and tensor.shape[2] == width


def _are_prompts(prompts: TimedPrompts | None, width: int) -> bool:
    """Words and numbers, and where they are encoded, each of them by tensors of one shape and of floating point."""
    if prompts is None:
        return True
    timeline, texts = prompts.timeline, prompts.texts_BTD
    told = all(type(prompt) is str for prompt in timeline.prompts) and type(timeline.recache) is bool
    if not told or not all(type(time) in (int, float) and 0 <= time < _MOST_COUNTED for time in timeline.times):
        return False
    alike = texts is None or (len(texts) == len(timeline.prompts) and len({text.shape for text in texts}) == 1)
    return alike and all(_is_sequence(text, width) and text.is_floating_point() for text in texts or ())


def _sets_a_generator(rng_state: Tensor) -> bool:
    try:
        torch.Generator().set_state(rng_state)
    except (RuntimeError, TypeError):
        return False
    return True


def _is_shown(shown: ShownReference | None, anchor: Anchor, num_landmarks: int) -> bool:
    """Whether it is a picture as large as the anchor's with the latents of one, and so many landmarks or none."""
    if shown is None:
        return False
    found = shown.landmarks_L2
    if found is not None and (tuple(found.shape) != (num_landmarks, 2) or found.dtype != torch.float32):
        return False
    picture, latents, like = shown.picture_HWC, shown.latents_BFCHW, anchor.reference_BFCHW
    fits = latents.shape == like.shape and latents.dtype == like.dtype
    large = tuple(picture.shape) == (*anchor.video_size, 3) and has_detail(picture, anchor.size)
    return fits and picture.dtype == torch.uint8 and large


@torch.no_grad()
def _decodes(model: StreamModel, saved: Snapshot, memory: DecoderMemory) -> bool:
    """Whether the decoder, which alone knows what its memory looks like, can go on from it."""
    decoding = ChunkDecoding(References(model.codec), memory, (saved.state.shown, saved.anchor.shown), 1)
    try:
        decoding(torch.zeros_like(saved.anchor.reference_BFCHW))
    except (RuntimeError, ValueError, IndexError, StopIteration) as problem:
        if "out of memory" in str(problem):
            raise
        return False
    after = decoding.memory
    grown = zip(memory, after, strict=False)  # of some decoders more is remembered after their second frame
    return len(after) >= len(memory) and all(not was.numel() or was.shape == now.shape for was, now in grown)
