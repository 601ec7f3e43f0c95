"""How many threads operations use on a CPU, chosen before a stream begins.

Small operations are done before their threads have met, so a stream of a small network runs its stages side by side and
one thread inside each. In a large network threads inside pay: how much is measured on one of its blocks. Networks whose
blocks are small, or very large, are not measured, so that the same stream gets the same count every time.
"""

from collections.abc import Mapping, Sequence
from time import perf_counter

import torch

from ..attention_cache import NoCache
from ..codec.codec_flops import decode_flops
from ..codec.taehv import TAEHV
from ..config import StreamSettings
from ..geometry import num_tokens
from ..threads import threads_inside
from ..wan.forward import CrossConstant, FrameInputs, run_block
from ..wan.network_flops import Tokens, chunk_flops
from ..wan.rope import rope_table
from .stream_model import StreamModel, latent_dtype

_SMALL, _LARGE = (
    2e9,
    5e10,
)  # operations of a block's pass: a fiftieth of a second of one processor; half a second or more
_BUDGET = 0.05  # seconds a candidate
_FEW = 16  # tokens, to begin with
_MARGIN = 1.15  # by so much more threads must be faster: fewer leave other processes their share
_UNKNOWN_CODEC = 0.5  # of the network's work; of autoencoders whose operations nobody counts


def choose_threads(
    model: StreamModel, settings: StreamSettings, latent_size: tuple[int, int], *, most: int | None = None
) -> int:
    """At most `most`; None: as many as operations of this thread use now."""
    most = torch.get_num_threads() if most is None else most
    if model.device.type != "cpu" or most == 1:
        return most
    flops = chunk_flops(model.config, settings, Tokens(frame=num_tokens(*latent_size)))
    of_a_block, counts = flops.step / model.config.num_layers, candidates(most)
    if of_a_block < _SMALL:
        return 1
    drawn = num_tokens(*latent_size) * (settings.num_chunk_frames + settings.num_knot_frames)
    speeds = {n: float(n) for n in counts} if of_a_block > _LARGE else measured_speeds(model, counts, drawn)
    return best_count(speeds, _decoding_share(model, settings, latent_size, flops.total), most)


def candidates(most: int) -> tuple[int, ...]:
    """1, 2, 4 ... and the most."""
    return (*(2**n for n in range(most.bit_length()) if 2**n < most), most)


def beside(threads: int, most: int) -> bool:
    """Whether there are processors left for decoding beside the network."""
    return threads == 1 or 2 * threads <= most


def best_count(speeds: Mapping[int, float], decoding: float, most: int) -> int:
    """The fewest threads with which a chunk takes hardly longer than with the best.

    `speeds` are the network's, by count; `decoding` is its share of the network's work. Side by side a chunk takes as
    long as the longer of the two, one after the other as both.
    """
    taken = {
        count: (max(1.0, decoding) if beside(count, most) else 1 + decoding) / speed
        for count, speed in speeds.items()
        if speed > 0
    }
    return min(count for count, seconds in taken.items() if seconds <= _MARGIN * min(taken.values()))


def _decoding_share(
    model: StreamModel, settings: StreamSettings, latent_size: tuple[int, int], network_flops: int
) -> float:
    if not isinstance(model.codec, TAEHV):
        return _UNKNOWN_CODEC
    return decode_flops(model.codec.config, settings.num_chunk_frames, latent_size) / network_flops


@torch.no_grad()
def measured_speeds(model: StreamModel, counts: Sequence[int], wanted: int) -> dict[int, float]:
    """Tokens a second of one block's forward, by count of threads; 0 where the others' count cannot be matched in time.

    All with the same number of tokens: at most `wanted`, and as many as one thread does in its time.
    """
    tokens, speeds = min(_FEW, wanted), {}
    with threads_inside(1):
        since, taken = perf_counter(), _seconds(model, tokens)
        while tokens < wanted and perf_counter() - since + 2.5 * taken < _BUDGET:
            tokens = min(2 * tokens, wanted)
            taken = _seconds(model, tokens)
        speeds[1] = tokens / taken
    for count in counts:
        if count != 1:
            speeds[count] = _speed(model, count, tokens)
    return speeds


def _speed(model: StreamModel, count: int, tokens: int) -> float:
    with threads_inside(count):
        since, best = perf_counter(), 0.0
        _seconds(model, min(_FEW, tokens))  # its threads are made
        while perf_counter() - since < _BUDGET / 2:
            best = max(best, tokens / _seconds(model, tokens))
        return best


def _seconds(model: StreamModel, tokens: int) -> float:
    """Seconds of one block's forward pass over a latent frame of `tokens` tokens."""
    config, dtype = model.config, latent_dtype(model)
    rope = rope_table([0], (1, tokens), config.head_dim, device=model.device, dtype=dtype.to_complex())
    x_BFPD = torch.ones(1, 1, tokens, config.dim, dtype=dtype)
    modulation_BF6D = torch.zeros(1, 1, 6, config.dim, dtype=dtype)
    inputs = FrameInputs(x_BFCHW=x_BFPD, timestep_BF=x_BFPD[..., 0, 0], rope=rope)
    text = CrossConstant(x_BFPD[:, 0, :1])
    since = perf_counter()
    run_block(model.network.blocks[0], x_BFPD, modulation_BF6D, inputs, text, NoCache(), 0, model.dtype)
    return perf_counter() - since
