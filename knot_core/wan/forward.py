"""The one forward pass: for streaming and for training, over our module tree or a host's of the same names.

Shapes: B batch, F latent frames, P tokens of a frame, L = F*P tokens, T tokens of text, image or sound, N heads,
K head dim, D model dim, E image dim, C channels, H W latent size. The residual stream, norms, modulation and time
embedding are in float32 (or the latents' dtype, in tests), matrices and attention in `compute_dtype`.

A host's tree must meet a contract (`missing_parts` in module_contract.py checks it): leaves are called, never read, so
they may keep their weights quantised, patched or on another device as long as they take `compute_dtype`; those with
weights in float32 are fed float32. The two tables that belong to no leaf, `block.modulation` and `head.modulation`, are
cast to the activations' dtype and device where they are used.
"""

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ..attention_cache import Attended, AttendedApart, AttentionCache
from ..geometry import PATCH
from .adapters import NO_DRIVING, DrivingFeatures, SoundKeys
from .leaves import feed
from .rope import RopeTable, rotate


@dataclass(frozen=True, kw_only=True, eq=False)
class FrameInputs:
    """The inputs of one pass."""

    x_BFCHW: Tensor  # all input channels of the layout
    timestep_BF: Tensor  # 1000 * sigma, per latent frame
    rope: RopeTable  # of these frames
    driving: DrivingFeatures = NO_DRIVING


@dataclass(frozen=True, eq=False)
class CrossKeys:
    """Keys and values of a text, or of an image, for one layer."""

    k_BTNK: Tensor
    v_BTNK: Tensor


@dataclass(frozen=True, eq=False)
class TextAndImage:
    """Keys and values of text and image tokens in an I2V network; the same queries attend to each separately."""

    text: CrossKeys
    image: CrossKeys


@dataclass(frozen=True, eq=False)
class CrossConstant:
    """Cross-attention to a text of one token (the null text): softmax over one key is 1, so it is o(v) everywhere."""

    out_BFD: Tensor  # of one frame, which stands for all, or of each


@dataclass(frozen=True, eq=False)
class CrossApart:
    """Tokens that lie side by side in a pass and attend to different prompts: the first `lengths[0]` to `parts[0]`."""

    lengths: tuple[int, ...]
    parts: "tuple[CrossKeys | TextAndImage, ...]"


CrossLayer = CrossKeys | TextAndImage | CrossConstant | CrossApart


@dataclass(frozen=True, eq=False)
class CrossContext:
    """An encoded prompt for every layer; computed once per prompt."""

    layers: tuple[CrossLayer, ...]


def encode_context(
    network: nn.Module,
    text_BTD: Tensor,
    *,
    head_dim: int,
    compute_dtype: torch.dtype,
    image_BTE: Tensor | None = None,
) -> CrossContext:
    """Keys and values by layer of a prompt's tokens, and for I2V networks of the reference's CLIP tokens."""
    text = network.text_embedding(text_BTD.to(compute_dtype))
    image = None if image_BTE is None else _embed_image(network.img_emb, image_BTE, compute_dtype)
    return CrossContext(tuple(_cross_layer(block.cross_attn, text, image, head_dim) for block in network.blocks))


def _embed_image(embedding: nn.Module, image_BTE: Tensor, compute_dtype: torch.dtype) -> Tensor:
    x = image_BTE.to(compute_dtype)
    for part in embedding.proj:
        x = feed(part, x, compute_dtype).to(compute_dtype)
    return x


def _cross_layer(attention: nn.Module, text_BTD: Tensor, image_BTD: Tensor | None, head_dim: int) -> CrossLayer:
    if text_BTD.shape[1] == 1 and image_BTD is None:
        return CrossConstant(attention.o(attention.v(text_BTD)))
    text = _cross_keys(attention.k, attention.norm_k, attention.v, text_BTD, head_dim)
    if image_BTD is None:
        return text
    return TextAndImage(text, _cross_keys(attention.k_img, attention.norm_k_img, attention.v_img, image_BTD, head_dim))


def _cross_keys(project_k: nn.Module, norm_k: nn.Module, project_v: nn.Module, x: Tensor, head_dim: int) -> CrossKeys:
    values = project_v(x)
    keys = feed(norm_k, _at_least_float32(project_k(x)), values.dtype)
    return CrossKeys(_split_heads(keys, head_dim).to(values.dtype), _split_heads(values, head_dim))


def wan_forward(
    network: nn.Module,
    inputs: FrameInputs,
    context: CrossContext,
    cache: AttentionCache,
    *,
    compute_dtype: torch.dtype = torch.float32,
) -> Tensor:
    """The velocity of every frame, [B, F, C, H, W].

    `context` is the prompt, from `encode_context`; `cache` is extended by the pass, not committed. Matrix products are
    in `compute_dtype`, everything else in float32 (see the module's docstring).
    """
    x_BFPD = _embed_patches(network, inputs.x_BFCHW, compute_dtype)
    time_BFD, modulation_BF6D = _embed_time(network, inputs.timestep_BF, x_BFPD.dtype, compute_dtype)
    run = _run_again_in_backward if _saves_memory(network) else run_block
    for layer, block in enumerate(network.blocks):
        x_BFPD = run(block, x_BFPD, modulation_BF6D, inputs, context.layers[layer], cache, layer, compute_dtype)
    shift, scale = _modulation(network.head.modulation, rearrange(time_BFD, "b f d -> b f 1 d"))
    y = modulate(network.head.norm(x_BFPD), shift, scale).to(compute_dtype)
    return _join_patches(network.head.head(y).to(x_BFPD.dtype), inputs.x_BFCHW.shape[-2] // PATCH)


def run_block(  # noqa: PLR0913, PLR0917 - all that a block meets, in the order in which it meets it
    block: nn.Module,
    x_BFPD: Tensor,
    modulation_BF6D: Tensor,
    inputs: FrameInputs,
    keys: CrossLayer,
    cache: AttentionCache,
    layer: int,
    compute_dtype: torch.dtype,
) -> Tensor:
    """One transformer block over the residual stream, [B, F, P, D]."""
    features_BFD = inputs.driving.before(layer)
    if features_BFD is not None:
        x_BFPD = x_BFPD + rearrange(features_BFD, "b f d -> b f 1 d")
    shift, scale, gate, ffn_shift, ffn_scale, ffn_gate = _modulation(block.modulation, modulation_BF6D)
    y = modulate(block.norm1(x_BFPD), shift, scale).to(compute_dtype)
    y = _self_attention(block.self_attn, y, inputs.rope, cache, layer)
    x_BFPD = torch.addcmul(x_BFPD, y.to(x_BFPD.dtype), gate)
    x_BFPD = x_BFPD + _cross_attention(block, x_BFPD, keys, compute_dtype)
    sound = inputs.driving.heard(layer)
    if sound is not None:
        x_BFPD = x_BFPD + _sound_attention(block, x_BFPD, sound, compute_dtype)
    y = modulate(block.norm2(x_BFPD), ffn_shift, ffn_scale).to(compute_dtype)
    return torch.addcmul(x_BFPD, block.ffn(y).to(x_BFPD.dtype), ffn_gate)


def _saves_memory(network: nn.Module) -> bool:
    """Whether a network in training asks to keep no activations inside its blocks (diffusers' name for it)."""
    return torch.is_grad_enabled() and getattr(network, "gradient_checkpointing", False)


def _run_again_in_backward(*inputs: Any) -> Tensor:
    """The block's activations are computed again for the gradient; until then the cache must give the same."""
    return checkpoint(run_block, *inputs, use_reentrant=False, preserve_rng_state=False)


def modulate(x_BFPD: Tensor, shift_BF1D: Tensor, scale_BF1D: Tensor) -> Tensor:
    """x * (1 + scale) + shift, [B, F, P, D] (adaptive layer norm, arXiv 2212.09748)"""
    return torch.addcmul(shift_BF1D, x_BFPD, 1 + scale_BF1D)


def attend(q_BLNK: Tensor, k_BSNK: Tensor, v_BSNK: Tensor, seen_BS: Tensor | None = None) -> Tensor:
    """softmax(q k / sqrt(K)) v per head, [B, L, N*K] out; over the keys that are `seen`, or over all."""
    q, k, v = (x.transpose(1, 2) for x in (q_BLNK, k_BSNK, v_BSNK))
    seen = None if seen_BS is None else rearrange(seen_BS, "b s -> b 1 1 s")
    by_matmul = q.dtype == torch.bfloat16 and q.device.type == "cpu"
    out_BNLK = _attend_by_matmul(q, k, v, seen) if by_matmul else F.scaled_dot_product_attention(q, k, v, seen)
    return rearrange(out_BNLK, "b n l k -> b l (n k)")


def _attend_by_matmul(q_BNLK: Tensor, k_BNSK: Tensor, v_BNSK: Tensor, seen_B11S: Tensor | None) -> Tensor:
    """Two plain products: in bfloat16 on a CPU twice as fast as the fused kernel, forward and backward."""
    logits_BNLS = (q_BNLK * q_BNLK.shape[-1] ** -0.5) @ k_BNSK.transpose(-1, -2)
    if seen_B11S is not None:
        logits_BNLS = logits_BNLS.masked_fill(~seen_B11S, -torch.inf)
    return logits_BNLS.softmax(dim=-1) @ v_BNSK


def sinusoids(timestep_BF: Tensor, freq_dim: int) -> Tensor:
    """[cos | sin] of timestep / 10000^(j / (freq_dim/2)): [B, F, freq_dim]"""
    half = freq_dim // 2
    exponents = torch.arange(half, dtype=timestep_BF.dtype, device=timestep_BF.device) / half
    angles = timestep_BF[..., None] * 10000.0**-exponents
    return torch.cat([angles.cos(), angles.sin()], dim=-1)


def _embed_patches(network: nn.Module, x_BFCHW: Tensor, compute_dtype: torch.dtype) -> Tensor:
    x = feed(network.patch_embedding, rearrange(x_BFCHW, "b f c h w -> b c f h w"), compute_dtype)
    return rearrange(x, "b d f h w -> b f (h w) d").to(x_BFCHW.dtype)


def _join_patches(patches: Tensor, num_rows: int) -> Tensor:
    return rearrange(patches, "b f (h w) (p q c) -> b f c (h p) (w q)", h=num_rows, p=PATCH, q=PATCH)


def _embed_time(
    network: nn.Module, timestep_BF: Tensor, dtype: torch.dtype, compute_dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    """Time embedding [B, F, D] and 6-way modulation [B, F, 6, D]; bfloat16 would blur neighbouring timesteps."""
    embedding, projection = network.time_embedding, network.time_projection
    with torch.autocast(timestep_BF.device.type, enabled=False):
        time_BFD = sinusoids(timestep_BF.to(dtype), embedding[0].in_features)
        for part in embedding:
            time_BFD = feed(part, time_BFD, compute_dtype).to(dtype)
        modulation = time_BFD
        for part in projection:
            modulation = feed(part, modulation, compute_dtype).to(dtype)
    return time_BFD, rearrange(modulation, "b f (m d) -> b f m d", m=6)


def _modulation(table_1MD: Tensor, time_BFMD: Tensor) -> tuple[Tensor, ...]:
    """The block's own table plus the time embedding: M of [B, F, 1, D]"""
    return (table_1MD.to(time_BFMD) + time_BFMD).split(1, dim=2)


def _self_attention(attention: nn.Module, y_BFPD: Tensor, rope: RopeTable, cache: AttentionCache, layer: int) -> Tensor:
    y_BLD = rearrange(y_BFPD, "b f p d -> b (f p) d")
    v = _split_heads(attention.v(y_BLD), rope.head_dim)
    q, k = (
        rotate(_split_heads(feed(norm, _at_least_float32(project(y_BLD)), v.dtype), rope.head_dim), rope).to(v.dtype)
        for project, norm in ((attention.q, attention.norm_q), (attention.k, attention.norm_k))
    )
    out_BLD = attention.o(_attend_to_cached(q, cache.extend(layer, k, v)))
    return rearrange(out_BLD, "b (f p) d -> b f p d", f=y_BFPD.shape[1])


def _attend_to_cached(q_BLNK: Tensor, found: Attended | AttendedApart) -> Tensor:
    if not isinstance(found, AttendedApart):
        return attend(q_BLNK, *found)
    queries = q_BLNK.split(found.lengths, dim=1)
    return torch.cat([attend(q, *seen) for q, seen in zip(queries, found.parts, strict=True)], dim=1)


def _cross_attention(block: nn.Module, x_BFPD: Tensor, keys: CrossLayer, dtype: torch.dtype) -> Tensor:
    if isinstance(keys, CrossConstant):
        return keys.out_BFD[:, :, None].to(x_BFPD.dtype)
    attention, values = block.cross_attn, _text_of(keys).v_BTNK
    head_dim, kept = values.shape[-1], values.dtype
    y_BLD = rearrange(feed(block.norm3, x_BFPD, dtype), "b f p d -> b (f p) d").to(dtype)
    q = _split_heads(feed(attention.norm_q, _at_least_float32(attention.q(y_BLD)), dtype), head_dim).to(kept)
    out_BLD = attention.o(_attend_to_prompt(q, keys))
    return rearrange(out_BLD, "b (f p) d -> b f p d", f=x_BFPD.shape[1]).to(x_BFPD.dtype)


def _text_of(keys: CrossLayer) -> CrossKeys:
    """The keys of a text; where there are several, of the first."""
    first = keys.parts[0] if isinstance(keys, CrossApart) else keys
    return first.text if isinstance(first, TextAndImage) else first


def _attend_to_prompt(q_BLNK: Tensor, keys: CrossLayer) -> Tensor:
    if isinstance(keys, CrossApart):
        queries = q_BLNK.split(keys.lengths, dim=1)
        return torch.cat([_attend_to_prompt(q, part) for q, part in zip(queries, keys.parts, strict=True)], dim=1)
    if isinstance(keys, TextAndImage):
        return _attend_to(q_BLNK, keys.text) + _attend_to(q_BLNK, keys.image)
    return _attend_to(q_BLNK, keys)


def _attend_to(q_BLNK: Tensor, keys: CrossKeys) -> Tensor:
    """One text or image may serve a whole batch."""
    batch = q_BLNK.shape[0]
    return attend(q_BLNK, keys.k_BTNK.expand(batch, -1, -1, -1), keys.v_BTNK.expand(batch, -1, -1, -1))


def _sound_attention(block: nn.Module, x_BFPD: Tensor, sound: SoundKeys, dtype: torch.dtype) -> Tensor:
    """Each latent frame attends to its own sound (MultiTalk / InfiniteTalk)."""
    attention, head_dim = block.audio_cross_attn, sound.k_BFTNK.shape[-1]
    y_XPD = rearrange(feed(block.norm_x, x_BFPD, dtype), "b f p d -> (b f) p d").to(dtype)
    q, k, v = (
        _split_heads(attention.q_linear(y_XPD), head_dim),
        *(x.flatten(0, 1) for x in (sound.k_BFTNK, sound.v_BFTNK)),
    )
    out_XPD = attention.proj(attend(q, k, v))
    return rearrange(out_XPD, "(b f) p d -> b f p d", f=x_BFPD.shape[1]).to(x_BFPD.dtype)


def _split_heads(x_BLD: Tensor, head_dim: int) -> Tensor:
    return rearrange(x_BLD, "b l (n k) -> b l n k", k=head_dim)


def _at_least_float32(x: Tensor) -> Tensor:
    return x if x.dtype == torch.float64 else x.float()
