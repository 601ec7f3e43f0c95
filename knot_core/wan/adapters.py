"""How driving enters: added to the tokens before some blocks, or attended to in every block.

Shapes: B batch, F latent frames, T packed signal entries or sound tokens of a latent frame, S signal dim, D model dim,
N heads, K head dim, X token dim.
"""

from dataclasses import dataclass, field

import torch
from einops import rearrange
from torch import Tensor, nn

from ..config import AudioCrossConfig, NetworkConfig
from .module_contract import feed


@dataclass(frozen=True, eq=False)
class SoundKeys:
    """Keys and values of every latent frame's sound, for one block."""

    k_BFTNK: Tensor
    v_BFTNK: Tensor

    def first(self, num_frames: int) -> "SoundKeys":
        """Of the first `num_frames` latent frames only."""
        return SoundKeys(self.k_BFTNK[:, :num_frames], self.v_BFTNK[:, :num_frames])


@dataclass(frozen=True, eq=False)
class DrivingFeatures:
    """What the blocks take of a driving: computed once per chunk, used at every step."""

    by_block: dict[int, Tensor]  # block number -> [B, F, D], added to every token of a latent frame before the block
    sound: dict[int, SoundKeys] = field(default_factory=dict)  # block number -> what its tokens attend to

    def before(self, block: int) -> Tensor | None:
        """[B, F, D], or None where nothing enters."""
        return self.by_block.get(block)

    def heard(self, block: int) -> SoundKeys | None:
        """What the tokens attend to after the text, or None."""
        return self.sound.get(block)

    def first(self, num_frames: int) -> "DrivingFeatures":
        """Of the first `num_frames` latent frames only."""
        return DrivingFeatures(
            {block: features[:, :num_frames] for block, features in self.by_block.items()},
            {block: keys.first(num_frames) for block, keys in self.sound.items()},
        )


NO_DRIVING = DrivingFeatures({})


def encode_signal(
    network: nn.Module, config: NetworkConfig, signal_BFTS: Tensor, *, starts: bool, compute_dtype: torch.dtype
) -> DrivingFeatures:
    """Features of a signal for a network's own adapter, once per chunk; `starts`: its first frame is the very first."""
    adapter = config.adapter
    if adapter is None:
        return NO_DRIVING
    if isinstance(adapter, AudioCrossConfig):
        return encode_sound(
            network, adapter, signal_BFTS, starts=starts, head_dim=config.head_dim, compute_dtype=compute_dtype
        )
    return encode_driving(network, adapter.blocks, signal_BFTS, compute_dtype=compute_dtype)


def encode_driving(
    adapter: nn.Module,
    blocks: tuple[int, ...],
    signal_BFTS: Tensor,
    *,
    compute_dtype: torch.dtype = torch.float32,
) -> DrivingFeatures:
    """Features of a signal, once per chunk; `adapter` holds `audio_proj` and `audio_cond_projs`, ours in float32."""
    packed = rearrange(signal_BFTS, "b f t s -> b f (t s)")
    with torch.autocast(packed.device.type, enabled=False):  # small matrices: precision costs nothing
        pack, projections = adapter.audio_proj, zip(blocks, adapter.audio_cond_projs, strict=True)
        hidden = feed(pack.norm_out, feed(pack.proj, packed, compute_dtype), compute_dtype)
        return DrivingFeatures({block: feed(project, hidden, compute_dtype) for block, project in projections})


def encode_sound(
    network: nn.Module,
    config: AudioCrossConfig,
    signal_BFTS: Tensor,
    *,
    starts: bool,
    head_dim: int,
    compute_dtype: torch.dtype,
) -> DrivingFeatures:
    """Sound tokens of each latent frame, and each block's keys and values of them, once per chunk.

    `starts`: the first latent frame is the driving's very first; it covers one pixel frame, whose entries come first.
    """
    first, rest = signal_BFTS[:, : int(starts), : config.num_first], signal_BFTS[:, int(starts) :]
    tokens_BFTX = _sound_tokens(network.audio_proj, config.num_tokens, first, rest, compute_dtype).to(compute_dtype)
    return DrivingFeatures({}, {
        number: SoundKeys(*rearrange(
            block.audio_cross_attn.kv_linear(tokens_BFTX), "b f t (two n k) -> two b f t n k", two=2, k=head_dim
        ))
        for number, block in enumerate(network.blocks)
    })  # fmt: skip


def _sound_tokens(
    pack: nn.Module, num_tokens: int, first_BFTS: Tensor, rest_BFTS: Tensor, compute_dtype: torch.dtype
) -> Tensor:
    """[B, F, T, X]: three layers with ReLU between (MultiTalk's audio projection), in float32 where the weights are."""
    with torch.autocast(rest_BFTS.device.type, enabled=False):
        parts = ((pack.proj1, first_BFTS), (pack.proj1_vf, rest_BFTS))
        hidden = torch.cat([feed(project, signal.flatten(2), compute_dtype) for project, signal in parts], dim=1)
        hidden = feed(pack.proj2, hidden.relu(), compute_dtype).relu()
        tokens = rearrange(feed(pack.proj3, hidden, compute_dtype), "b f (t x) -> b f t x", t=num_tokens)
        return feed(pack.norm, tokens, compute_dtype)
