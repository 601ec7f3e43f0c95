"""How many floating-point operations a pass over the network takes: formulas, of matrix products alone.

A product of [m, k] by [k, n] counts 2 m n k. Norms, RoPE, softmax and sums are left out: at real sizes less than one
part in a hundred. A test holds the formulas equal to what torch counts on a tiny network.

Letters: F latent frames, P tokens of a frame, L = F P tokens of a pass, S tokens that it attends to, T text, image or
sound tokens, D model dim, I feed-forward dim, N layers.
"""

from dataclasses import dataclass

from ..config import NetworkConfig, StreamSettings
from ..flow import noise_levels
from ..geometry import PATCH
from .adapters import adapter_of
from .branches import branches


@dataclass(frozen=True, kw_only=True)
class ChunkFlops:
    """FLOPs of one chunk of a stream whose window is full."""

    step: int  # one denoising step
    steps: int  # how many of them
    commit: int
    driving: int

    @property
    def total(self) -> int:
        """FLOPs of all steps, the commit pass and the driving."""
        return self.step * self.steps + self.commit + self.driving


def projection_flops(config: NetworkConfig, num_tokens: int) -> int:
    """q, k, v and o of the self-attention, N layers: N * 4 * 2 L D^2"""
    return config.num_layers * 8 * num_tokens * config.dim**2


def attention_flops(config: NetworkConfig, num_tokens: int, num_keys: int) -> int:
    """Logits and weighted values of the self-attention, N layers: N * 2 * 2 L S D"""
    return config.num_layers * 4 * num_tokens * num_keys * config.dim


def cross_flops(config: NetworkConfig, num_tokens: int, num_text_tokens: int, num_image_tokens: int = 0) -> int:
    """q and o, and attention to T cached keys of text and image, N layers: N * (2 * 2 L D^2 + 4 L T D).

    Keys and values are made once per prompt, and what the null text of one token contributes is a constant.
    """
    if num_text_tokens == 1 and not num_image_tokens:
        return 0
    num_keys = num_text_tokens + num_image_tokens
    return config.num_layers * (4 * num_tokens * config.dim**2 + 4 * num_tokens * num_keys * config.dim)


def feed_forward_flops(config: NetworkConfig, num_tokens: int) -> int:
    """Two matrices, N layers: N * 2 * 2 L D I"""
    return config.num_layers * 4 * num_tokens * config.dim * config.ffn_dim


def edge_flops(config: NetworkConfig, num_frames: int, num_tokens: int) -> int:
    """Layers outside the blocks: patches in and out, 2 L D (4 C_in + 4 C_out); time, 2 F (256 D + D^2 + 6 D^2)"""
    patches = 2 * num_tokens * config.dim * PATCH**2 * (config.in_channels + config.out_channels)
    return patches + 2 * num_frames * config.dim * (config.freq_dim + 7 * config.dim)


@dataclass(frozen=True, kw_only=True)
class Tokens:
    """The number of tokens of a network's inputs."""

    frame: int  # of one latent frame
    text: int = 1
    image: int = 0  # of CLIP, for I2V networks


def pass_flops(config: NetworkConfig, tokens: Tokens, *, num_frames: int, num_keys: int) -> int:
    """One pass: F frames of P tokens, attending to S tokens, their own included."""
    num_tokens = num_frames * tokens.frame
    return (
        projection_flops(config, num_tokens)
        + attention_flops(config, num_tokens, num_keys)
        + cross_flops(config, num_tokens, tokens.text, tokens.image)
        + adapter_of(config).pass_flops(num_tokens)
        + feed_forward_flops(config, num_tokens)
        + edge_flops(config, num_frames, num_tokens)
    )


def chunk_flops(config: NetworkConfig, settings: StreamSettings, tokens: Tokens) -> ChunkFlops:
    """FLOPs of a chunk once the window is full: c + k frames are denoised, attending to themselves, anchor, sinks and
    window; c are committed.
    """
    seen = settings.num_window_frames + settings.num_sink_frames + int(settings.use_anchor)
    drawn = settings.num_chunk_frames + settings.num_knot_frames

    def one_pass(num_frames: int, seen: int) -> int:
        return pass_flops(config, tokens, num_frames=num_frames, num_keys=(num_frames + seen) * tokens.frame)

    passes = len(branches(settings, config))
    return ChunkFlops(
        step=passes * one_pass(drawn, seen),
        steps=len(noise_levels(settings)),
        commit=passes * sum(one_pass(num_frames, before) for num_frames, before in _commit_passes(settings)),
        driving=adapter_of(config).encode_flops(drawn),
    )


def _commit_passes(settings: StreamSettings) -> list[tuple[int, int]]:
    """Frames of each pass that leaves a chunk in the window, and frames that it sees beside itself."""
    chunk, window, anchor = settings.num_chunk_frames, settings.num_window_frames, int(settings.use_anchor)
    if settings.commit == "recompute":
        return [(min(chunk, window - start), start + anchor) for start in range(0, window, chunk)]
    kept_frames = window + settings.num_sink_frames
    return [(chunk, kept_frames + anchor)] if settings.commit == "clean" and kept_frames else []


def plain_flops(config: NetworkConfig, settings: StreamSettings, tokens: Tokens) -> int:
    """The same chunk without a cache or a knot: every step runs reference, sinks, window and chunk, all attending to
    all.
    """
    num_frames = settings.num_chunk_frames + settings.num_sink_frames + settings.num_window_frames
    num_frames += int(settings.use_anchor)
    each = pass_flops(config, tokens, num_frames=num_frames, num_keys=num_frames * tokens.frame)
    return len(noise_levels(settings)) * each + adapter_of(config).encode_flops(num_frames)
