"""Streaming equals a brute-force recomputation: float64, one explicit mask, absolute positions, no cache.

Everything below is written from the design, with nothing of the engine but the weights: for each step of each chunk,
the network runs once over [anchor copy 0, committed chunk 0, anchor copy 1, committed chunk 1, ..., the anchor now, the
noisy chunk], where each chunk sees its own copy of the anchor, sinks, its window and itself, and each copy sees only
itself. A committed frame's deeper keys know what its own commit pass saw; that is why the past cannot be one clean
sequence. Where a frame stands elsewhere for each chunk that looks at it, or sinks fade, one mask cannot say it: there
every chunk's keys are gathered, placed and mixed from the unrotated ones, again by hand.
"""

import itertools
import math
from dataclasses import dataclass

import pytest
import torch
import torch.nn.functional as F

from knot_core.config import StreamSettings
from knot_core.stream import open_stream

NUM_CHUNKS = 5
PINNED = ("t2v16", "ref33")  # layouts whose known frames stand in x itself
TOLERANCES = {torch.float32: 1e-4, torch.float64: 1e-12}  # in float64 nothing but rounding may be left


@dataclass
class Piece:
    """Some latent frames in the one long sequence."""

    latents: torch.Tensor  # [F, 16, h, w]
    known: torch.Tensor | None  # the first of them, given
    sigma: float
    positions: list[int]
    signal: torch.Tensor  # [F, 4, S]
    chunk: int
    kind: str  # anchor | committed | noisy

    def sees(self, other: "Piece", settings: StreamSettings) -> list[bool]:
        """Which frames of another piece this one's frames attend to."""
        if self.kind == "anchor" or other.kind == "noisy":
            return [self is other] * len(other.positions)
        if other.kind == "anchor" or self is other:
            return [self.chunk == other.chunk] * len(other.positions)
        start, window, sinks = self.positions[0], settings.num_window_frames, settings.num_sink_frames
        return [start - window <= position < start or position < min(sinks, start) for position in other.positions]


class Reference:
    """The network and the stream, once more."""

    def __init__(self, model, text):
        self.config = model.config
        self.weights = {name: tensor.double() for name, tensor in model.network.state_dict().items()}
        self.text = self.linear(
            F.gelu(self.linear(text.double(), "text_embedding.0"), approximate="tanh"), "text_embedding.2"
        )

    def linear(self, x, name):
        return x @ self.weights[f"{name}.weight"].T + self.weights[f"{name}.bias"]

    def rms(self, x, name):
        return x / (x.square().mean(-1, keepdim=True) + self.config.eps).sqrt() * self.weights[f"{name}.weight"]

    def norm(self, x, eps=None):
        centred = x - x.mean(-1, keepdim=True)
        return centred / (centred.square().mean(-1, keepdim=True) + (eps or self.config.eps)).sqrt()

    def heads(self, x):
        return x.unflatten(-1, (self.config.num_heads, -1)).transpose(-2, -3)  # [N, L, K]

    def rope(self, x, places):
        """[N, L, K] turned pair by pair; places are (time, row, column) of each token."""
        sixth = x.shape[-1] // 6
        dims = (x.shape[-1] - 4 * sixth, 2 * sixth, 2 * sixth)
        angles = [
            [place / 10000 ** (2 * j / dim) for place, dim in zip(token, dims, strict=True) for j in range(dim // 2)]
            for token in places
        ]
        cos, sin = torch.tensor(angles, dtype=torch.float64).cos(), torch.tensor(angles, dtype=torch.float64).sin()
        even, odd = x[..., 0::2], x[..., 1::2]
        return torch.stack([even * cos - odd * sin, even * sin + odd * cos], dim=-1).flatten(-2)

    def attend(self, name, queries_from, keys_from, mask, places=None):
        """Attention `name`, with every key masked by hand; places turn queries and keys."""
        q = self.heads(self.rms(self.linear(queries_from, f"{name}.q"), f"{name}.norm_q"))
        k = self.heads(self.rms(self.linear(keys_from, f"{name}.k"), f"{name}.norm_k"))
        v = self.heads(self.linear(keys_from, f"{name}.v"))
        if places is not None:
            q, k = self.rope(q, places), self.rope(k, places)
        scores = (q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])).masked_fill(~mask, -math.inf)
        return self.linear((scores.softmax(-1) @ v).transpose(-2, -3).flatten(-2), f"{name}.o")

    def gather(self, name, y, pieces, settings, grid):
        """Self-attention `name`, viewer by viewer: [keys of frames, each where this viewer has it]."""
        q = self.heads(self.rms(self.linear(y, f"{name}.q"), f"{name}.norm_q"))
        k = self.heads(self.rms(self.linear(y, f"{name}.k"), f"{name}.norm_k"))
        v = self.heads(self.linear(y, f"{name}.v"))
        tokens, out = len(grid), []
        spans, stop = {}, 0
        for piece in pieces:
            spans[id(piece)] = stop
            stop += len(piece.positions) * tokens

        def frame(piece, number):
            start = spans[id(piece)] + number * tokens
            return k[:, start : start + tokens], v[:, start : start + tokens]

        def placed(x, position):
            return self.rope(x, [(position, *place) for place in grid])

        for viewer in pieces:
            past = {t: frame(p, f) for p in pieces if p.kind == "committed" for f, t in enumerate(p.positions)}
            seen = self.past(viewer, past, settings)  # [(k, v, position)], and where the viewer's first frame stands
            own = seen.pop()
            shift = own - viewer.positions[0]
            seen += [(*frame(viewer, f), t + shift) for f, t in enumerate(viewer.positions)]
            if viewer.kind != "anchor":
                seen += [
                    (*frame(p, 0), p.positions[0] + shift)
                    for p in pieces if p.kind == "anchor" and p.chunk == viewer.chunk
                ]  # fmt: skip
            keys = torch.cat([placed(key, position) for key, _, position in seen], dim=1)
            values = torch.cat([value for _, value, _ in seen], dim=1)
            start = spans[id(viewer)]
            queries = [
                placed(q[:, start + f * tokens : start + (f + 1) * tokens], t + shift)
                for f, t in enumerate(viewer.positions)
            ]
            scores = torch.cat(queries, dim=1) @ keys.transpose(-1, -2) / math.sqrt(q.shape[-1])
            out.append((scores.softmax(-1) @ values).transpose(-2, -3).flatten(-2))
        return self.linear(torch.cat(out), f"{name}.o")

    def past(self, viewer, frames, settings):
        """What a viewer has of the committed frames, each with its position; last, the viewer's own position."""
        start, window, sinks = viewer.positions[0], settings.num_window_frames, settings.num_sink_frames
        if viewer.kind == "anchor":
            return [start]
        kept = {t: frames[t] for t in range(min(sinks, start))}
        for t in range(sinks, start - window if sinks else 0):  # has left the window, oldest first
            d = settings.sink_decay
            kept[t % sinks] = tuple(d * a + (1 - d) * b for a, b in zip(kept[t % sinks], frames[t], strict=True))
        seen = [*kept.items(), *((t, frames[t]) for t in range(max(sinks, start - window), start))]
        if settings.rope_positions == "window":
            return [(*kv, number) for number, (_, kv) in enumerate(seen)] + [len(seen)]
        return [(*kv, t) for t, kv in seen] + [start]

    def channels(self, piece):
        """The layout's input channels, and the noise level of each frame."""
        x, sigmas = piece.latents.clone(), [piece.sigma] * len(piece.positions)
        num_known = 0 if piece.known is None else len(piece.known)
        if self.config.layout in PINNED and num_known:
            x[:num_known] = piece.known
        if self.config.layout == "t2v16":
            return x, [0.0] * num_known + sigmas[num_known:]
        if self.config.layout == "ref33":
            unknown = torch.ones_like(x[:, :1])
            unknown[:num_known] = 0
            return torch.cat([x, self.reference.expand_as(x), unknown], dim=1), sigmas
        mask, condition = torch.zeros_like(x[:, :4]), torch.zeros_like(x)
        if num_known:
            mask[:num_known], condition[:num_known] = 1, piece.known
        return torch.cat([x, mask, condition], dim=1), sigmas

    def embed_time(self, sigmas):
        """Time embedding [F, D] and modulation [F, 6, D] of each frame."""
        half = self.config.freq_dim // 2
        frequencies = 10000.0 ** -(torch.arange(half, dtype=torch.float64) / half)
        angles = 1000 * torch.tensor(sigmas, dtype=torch.float64)[:, None] * frequencies
        time = self.linear(torch.cat([angles.cos(), angles.sin()], dim=-1), "time_embedding.0")
        time = self.linear(F.silu(time), "time_embedding.2")
        return time, self.linear(F.silu(time), "time_projection.1").unflatten(-1, (6, -1))

    def hidden_signal(self, signal):
        """What the driving adapter's projections start from, [F, hidden]."""
        hidden = self.norm(self.linear(signal.double().flatten(1), "audio_proj.proj"), eps=1e-5)  # OmniAvatar's
        return hidden * self.weights["audio_proj.norm_out.weight"] + self.weights["audio_proj.norm_out.bias"]

    def block(self, j, h, six, look):
        """Transformer block j over all tokens [L, D]; `six` is the time's modulation of each token."""
        name, weights = f"blocks.{j}", self.weights
        e = (weights[f"{name}.modulation"] + six).unbind(1)
        y = self.norm(h) * (1 + e[1]) + e[0]
        h = h + look(f"{name}.self_attn", y) * e[2]
        y = self.norm(h) * weights[f"{name}.norm3.weight"] + weights[f"{name}.norm3.bias"]
        h = h + self.attend(f"{name}.cross_attn", y, self.text, torch.ones(len(y), len(self.text), dtype=torch.bool))
        y = self.norm(h) * (1 + e[4]) + e[3]
        return h + self.linear(F.gelu(self.linear(y, f"{name}.ffn.0"), approximate="tanh"), f"{name}.ffn.2") * e[5]

    def velocity(self, pieces, settings):
        """The velocity of the last piece."""
        channels, sigmas = zip(*(self.channels(piece) for piece in pieces), strict=True)
        x = torch.cat(channels)
        num_frames, _, height, width = x.shape
        rows, columns = height // 2, width // 2

        def per_token(table_F):
            return table_F.repeat_interleave(rows * columns, 0)

        patches = x.reshape(num_frames, -1, rows, 2, columns, 2).permute(0, 2, 4, 1, 3, 5)
        kernel = self.weights["patch_embedding.weight"].flatten(1)
        h = patches.reshape(num_frames * rows * columns, -1) @ kernel.T + self.weights["patch_embedding.bias"]
        time, six = self.embed_time(list(itertools.chain(*sigmas)))
        adapter = self.config.adapter
        hidden = None if adapter is None else self.hidden_signal(torch.cat([piece.signal for piece in pieces]))
        positions = [position for piece in pieces for position in piece.positions]
        grid = [(r, c) for r in range(rows) for c in range(columns)]
        places = [(t, r, c) for t in positions for r, c in grid]
        sees = [list(itertools.chain(*(a.sees(b, settings) for b in pieces))) for a in pieces for _ in a.positions]
        mask = per_token(per_token(torch.tensor(sees)).T).T

        def look(name, y):
            if settings.rope_positions == "window" or settings.sink_decay < 1:
                return self.gather(name, y, pieces, settings, grid)
            return self.attend(name, y, y, mask, places)

        for j in range(self.config.num_layers):
            if adapter is not None and j in adapter.blocks:
                number = adapter.blocks.index(j)
                h = h + per_token(self.linear(hidden, f"audio_cond_projs.{number}"))
            h = self.block(j, h, per_token(six), look)
        shift, scale = (per_token(part) for part in (self.weights["head.modulation"] + time[:, None]).unbind(1))
        out = self.linear(self.norm(h) * (1 + scale) + shift, "head.head")
        out = out.reshape(num_frames, rows, columns, 2, 2, -1).permute(0, 5, 1, 3, 2, 4)
        return out.reshape(num_frames, -1, height, width)[-len(pieces[-1].positions) :]

    def stream(self, reference, settings, driving, seed, num_chunks):
        """Design, section 3, word for word."""
        c, k, s = settings.num_chunk_frames, settings.num_knot_frames, settings.run_ahead_stride
        n = settings.run_ahead_start if s else 0
        self.reference, pinned = reference, self.config.layout in PINNED
        rng = torch.Generator().manual_seed(seed)
        sigmas = [1 - step / settings.steps for step in range(settings.steps)]
        sigmas = [settings.shift * sigma / (1 + (settings.shift - 1) * sigma) for sigma in sigmas]
        warmed = [timestep / 1000 for timestep in settings.timesteps] or sigmas
        knot = reference if settings.start_from_reference else None
        past, latents = [], []
        for chunk in range(num_chunks):
            i = chunk * c
            while s and i + c + k > n:
                n += s
            if settings.use_anchor:
                silence = torch.zeros(1, 4, self.config.adapter.signal_dim)
                past.append(Piece(reference, reference, 0.0, [n], silence, chunk, "anchor"))
            sigmas = ([t / 1000 for t in settings.first_timesteps] or warmed) if chunk == 0 else warmed
            noise = torch.randn(len(sigmas), c + k, *reference.shape[1:], generator=rng).double()
            signal, positions = driving.signal(i, c + k), list(range(i, i + c + k))
            x = noise[0]
            for step, sigma in enumerate(sigmas):
                if knot is not None and pinned:
                    x = torch.cat([knot, x[len(knot) :]])
                noisy = Piece(x, knot, sigma, positions, signal, chunk, "noisy")
                x0 = x - sigma * self.velocity([*past, noisy], settings)
                if knot is not None and pinned:
                    x0 = torch.cat([knot, x0[len(knot) :]])
                if step + 1 < len(sigmas):
                    x = (1 - sigmas[step + 1]) * x0 + sigmas[step + 1] * noise[step + 1]
            if knot is not None:
                fused = (1 - settings.fusion) * x0[: len(knot)] + settings.fusion * knot
                x0 = torch.cat([fused, x0[len(knot) :]])
            # LiveTalk says at every pass of its first chunk that frame 0 is given, at the commit as well
            given = knot if chunk == 0 and self.config.layout == "ref33" else None
            knot = x0[c : c + k] if k else None
            latents.append(x0[:c])
            past.append(Piece(x0[:c], given, 0.0, positions[:c], signal[:c], chunk, "committed"))
        return torch.cat(latents)


def max_error(model, settings, waves, num_text_tokens=1, num_chunks=NUM_CHUNKS):
    text = torch.randn(1, num_text_tokens, model.config.text_dim, generator=torch.Generator().manual_seed(5))
    anchor = model.anchor(text=text)
    stream = open_stream(model, anchor, settings, waves(), seed=11)
    got = torch.cat([chunk.latents for chunk in itertools.islice(stream, num_chunks)])
    want = Reference(model, text[0]).stream(anchor.reference_BFCHW[0].double(), settings, waves(), 11, num_chunks)
    assert want.abs().max() < 1e3, "the random network blows up; the comparison would say nothing"
    return ((got - want).abs().max() / want.abs().max()).item()


@pytest.mark.parametrize("dtype", TOLERANCES, ids=str)
@pytest.mark.parametrize("layout", ["inpaint36", "t2v16"])
@pytest.mark.parametrize("knot", [0, 1, 2])
@pytest.mark.parametrize("window", [0, 2, 4, 6, 40])
def test_streaming_equals_brute_force(make_model, waves, layout, knot, window, dtype):
    """Windows that keep less than a chunk, cut through one, hold two, and are larger than the stream."""
    settings = StreamSettings(num_knot_frames=knot, num_window_frames=window, steps=2)
    assert max_error(make_model(layout, dtype=dtype), settings, waves) < TOLERANCES[dtype]


@pytest.mark.parametrize(
    "change",
    [
        {"use_anchor": False},
        {"run_ahead_stride": 0},
        {"run_ahead_start": 0, "run_ahead_stride": 1},
        {"start_from_reference": True},
        {"start_from_reference": True, "use_anchor": False, "num_knot_frames": 2, "fusion": 0.3},
        {"fusion": 0.0},
        {"num_chunk_frames": 1},
        {"num_chunk_frames": 5, "num_knot_frames": 3},
        {"steps": 4, "shift": 1.0},
    ],
    ids=str,
)
@pytest.mark.parametrize("dtype", TOLERANCES, ids=str)
@pytest.mark.parametrize("layout", ["inpaint36", "t2v16"])
def test_so_does_every_other_setting(make_model, waves, layout, change, dtype):
    settings = StreamSettings(**{"num_window_frames": 4, "steps": 2, **change})
    assert max_error(make_model(layout, dtype=dtype), settings, waves) < TOLERANCES[dtype]


@pytest.mark.parametrize("dtype", TOLERANCES, ids=str)
@pytest.mark.parametrize("layout", ["inpaint36", "t2v16"])
def test_so_does_a_prompt_of_several_tokens(make_model, waves, layout, dtype):
    model = make_model(layout, dtype=dtype)
    assert max_error(model, StreamSettings(steps=2), waves, num_text_tokens=3) < TOLERANCES[dtype]


@pytest.mark.parametrize("dtype", TOLERANCES, ids=str)
@pytest.mark.parametrize("window", [21 - 3, 9 - 3], ids=["global 21", "rolling 9"])
def test_self_forcing_is_block_causal_attention(make_model, waves, window, dtype):
    """Published windows count the current chunk of 3; ours what lies behind it. 8 chunks: even 21 frames roll."""
    settings = StreamSettings(
        num_knot_frames=0, use_anchor=False, num_window_frames=window, timesteps=(1000, 937.5, 833.3333333333334, 625)
    )
    model = make_model("t2v16", dtype=dtype, adapter=None)
    assert max_error(model, settings, waves, num_text_tokens=4, num_chunks=8) < TOLERANCES[dtype]


@pytest.mark.parametrize("dtype", TOLERANCES, ids=str)
@pytest.mark.parametrize(("knot", "start"), [(0, False), (1, False), (1, True), (2, False), (2, True)])
def test_ref33_shows_the_reference_and_pins_the_knot(make_model, waves, knot, start, dtype):
    settings = StreamSettings(num_knot_frames=knot, num_window_frames=4, steps=3, start_from_reference=start)
    assert max_error(make_model("ref33", dtype=dtype), settings, waves) < TOLERANCES[dtype]


SINKS = [
    {},
    {"sink_decay": 0.6},
    {"rope_positions": "window"},
    {"rope_positions": "window", "sink_decay": 0.6},
    {"rope_positions": "window", "use_anchor": False, "num_knot_frames": 0},
    {"rope_positions": "window", "sink_decay": 0.9, "num_window_frames": 0},
    {"rope_positions": "window", "sink_decay": 0.9, "num_window_frames": 2, "num_sink_frames": 2},
    {"rope_positions": "window", "sink_decay": 0.3, "num_chunk_frames": 4, "num_knot_frames": 2, "num_sink_frames": 5},
    {"sink_decay": 0.6, "num_sink_frames": 1, "num_window_frames": 1},
    {"sink_decay": 0.6, "num_sink_frames": 2, "num_window_frames": 0},
    {"rope_positions": "window", "num_sink_frames": 0},
    {"rope_positions": "window", "run_ahead_stride": 0},
    {"sink_decay": 0.0, "num_chunk_frames": 1},
]


@pytest.mark.parametrize("dtype", TOLERANCES, ids=str)
@pytest.mark.parametrize(
    ("change", "layout"), list(zip(SINKS, itertools.cycle(["inpaint36", "ref33", "t2v16"]), strict=False)), ids=str
)
def test_sinks_stay_follow_and_fade(make_model, waves, layout, change, dtype):
    """Also of less than a chunk, cut by a chunk, more than the window, and none; 7 chunks, so that much leaves it."""
    settings = StreamSettings(**{"num_sink_frames": 3, "num_window_frames": 4, "steps": 2, **change})
    assert max_error(make_model(layout, dtype=dtype), settings, waves, num_chunks=7) < TOLERANCES[dtype]


@pytest.mark.parametrize("knot", [0, 1, 2])
def test_with_a_knot_of_any_length(make_model, waves, knot):
    settings = StreamSettings(
        num_sink_frames=3, num_window_frames=4, steps=2, num_knot_frames=knot, rope_positions="window", sink_decay=0.7
    )
    assert max_error(make_model("t2v16", dtype=torch.float64), settings, waves) < TOLERANCES[torch.float64]


@pytest.mark.parametrize("layout", ["inpaint36", "ref33", "t2v16"])
def test_a_first_chunk_with_steps_of_its_own(make_model, waves, layout):
    settings = StreamSettings(timesteps=(1000, 500), first_timesteps=(1000, 800, 300), num_window_frames=4)
    assert max_error(make_model(layout), settings, waves, num_chunks=3) < TOLERANCES[torch.float32]


def test_a_whole_prompt_of_512_tokens(make_model, waves):
    assert max_error(make_model("t2v16"), StreamSettings(steps=2), waves, 512, 2) < TOLERANCES[torch.float32]
