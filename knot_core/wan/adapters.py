"""How driving enters: added to the tokens before some blocks, or attended to in every block.

Shapes: B batch, F latent frames, T packed signal entries or sound tokens of a latent frame, S signal dim, D model dim,
N heads, K head dim, X token dim.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from einops import rearrange
from torch import Tensor, nn

from ..config import AdapterConfig, AudioCrossConfig, NetworkConfig
from .leaves import feed


@dataclass(frozen=True, eq=False)
class SoundKeys:
    """Keys and values of every latent frame's sound, for one block."""

    k_BFTNK: Tensor
    v_BFTNK: Tensor

    def first(self, num_frames: int) -> "SoundKeys":
        """The part that belongs to the first `num_frames` latent frames."""
        return SoundKeys(self.k_BFTNK[:, :num_frames], self.v_BFTNK[:, :num_frames])


@dataclass(frozen=True, eq=False)
class DrivingFeatures:
    """A driving as the transformer blocks use it: computed once per chunk, used at every step."""

    by_block: dict[int, Tensor]  # block number -> [B, F, D], added to every token of a latent frame before the block
    sound: dict[int, SoundKeys] = field(default_factory=dict)  # block number -> what its tokens attend to

    def before(self, block: int) -> Tensor | None:
        """Features [B, F, D] to add to the tokens before the block, or None."""
        return self.by_block.get(block)

    def heard(self, block: int) -> SoundKeys | None:
        """Keys and values that the block's tokens attend to after the text, or None."""
        return self.sound.get(block)

    def first(self, num_frames: int) -> "DrivingFeatures":
        """The part that belongs to the first `num_frames` latent frames."""
        return DrivingFeatures(
            {block: features[:, :num_frames] for block, features in self.by_block.items()},
            {block: keys.first(num_frames) for block, keys in self.sound.items()},
        )


NO_DRIVING = DrivingFeatures({})


def driving_side_by_side(parts: Sequence[DrivingFeatures]) -> DrivingFeatures:
    """The features of several streams' latent frames, one stream's behind the other's; all of one network."""
    first = parts[0]
    return DrivingFeatures(
        {block: torch.cat([part.by_block[block] for part in parts], dim=1) for block in first.by_block},
        {block: _sound_side_by_side([part.sound[block] for part in parts]) for block in first.sound},
    )


def _sound_side_by_side(parts: Sequence[SoundKeys]) -> SoundKeys:
    keys, values = zip(*((part.k_BFTNK, part.v_BFTNK) for part in parts), strict=True)
    return SoundKeys(torch.cat(keys, dim=1), torch.cat(values, dim=1))


def encode_signal(
    network: nn.Module, config: NetworkConfig, signal_BFTS: Tensor, *, starts: bool, compute_dtype: torch.dtype
) -> DrivingFeatures:
    """Features of a signal for a network's own adapter, once per chunk.

    `starts`: the signal's first latent frame is the first of the stream, and covers one pixel frame instead of four.
    """
    return adapter_of(config).encode(network, signal_BFTS, starts=starts, compute_dtype=compute_dtype)


class NetworkAdapter(ABC):
    """The adapter of a network: its modules, which of them the forward pass uses, and how it encodes a signal."""

    parts: tuple[str, ...] = ()  # dotted names of the modules that are used outside the blocks
    block_parts: tuple[str, ...] = ()  # and in each block

    def add_to_block(self, block: nn.Module) -> None:  # noqa: B027 - most have nothing there
        """Create its modules in a transformer block; they come after cross-attention."""

    def add_to_network(self, network: nn.Module) -> None:  # noqa: B027
        """Create its modules outside the blocks."""

    @abstractmethod
    def encode(
        self, network: nn.Module, signal_BFTS: Tensor, *, starts: bool, compute_dtype: torch.dtype
    ) -> DrivingFeatures:
        """See `encode_signal`."""

    @abstractmethod
    def encode_flops(self, num_frames: int) -> int:
        """Floating-point operations of `encode` for F latent frames; H hidden, E entries of a frame, Q their signal."""

    def pass_flops(self, num_tokens: int) -> int:  # noqa: ARG002
        """Floating-point operations that it adds to a pass of L tokens."""
        return 0


class NoAdapter(NetworkAdapter):
    """A network that is driven by its prompt alone."""

    def encode_flops(self, num_frames: int) -> int:  # noqa: ARG002
        """None: 0"""
        return 0

    def encode(self, *_: object, **__: object) -> DrivingFeatures:
        return NO_DRIVING


class AddedAdapter(NetworkAdapter):
    """Added to the tokens before some blocks (knot-tiny, LiveTalk, OmniAvatar)."""

    def __init__(self, adapter: AdapterConfig, config: NetworkConfig) -> None:
        self._adapter, self._dim = adapter, config.dim
        projections = (f"audio_cond_projs.{number}" for number in range(len(adapter.blocks)))
        self.parts = ("audio_proj.proj", "audio_proj.norm_out", *projections)

    def add_to_network(self, network: nn.Module) -> None:
        network.audio_proj = SignalPack(self._adapter)
        network.audio_cond_projs = nn.ModuleList(
            nn.Linear(self._adapter.hidden_dim, self._dim) for _ in self._adapter.blocks
        )

    def encode(
        self,
        network: nn.Module,
        signal_BFTS: Tensor,
        *,
        starts: bool,  # noqa: ARG002 - each frame by itself
        compute_dtype: torch.dtype,
    ) -> DrivingFeatures:
        return encode_driving(network, self._adapter.blocks, signal_BFTS, compute_dtype=compute_dtype)

    def encode_flops(self, num_frames: int) -> int:
        """2 F (E Q H + blocks H D)"""
        added = self._adapter.hidden_dim * len(self._adapter.blocks) * self._dim
        return 2 * num_frames * (_packing(self._adapter) + added)


class CrossAdapter(NetworkAdapter):
    """Attended to in every block (MultiTalk, InfiniteTalk)."""

    parts = tuple(f"audio_proj.{name}" for name in ("proj1", "proj1_vf", "proj2", "proj3", "norm"))
    block_parts = ("norm_x", "audio_cross_attn.q_linear", "audio_cross_attn.kv_linear", "audio_cross_attn.proj")

    def __init__(self, adapter: AudioCrossConfig, config: NetworkConfig) -> None:
        self._adapter, self._config = adapter, config

    def add_to_block(self, block: nn.Module) -> None:
        dim, eps = self._config.dim, self._config.eps
        block.norm_x = nn.LayerNorm(dim, eps) if self._adapter.norm_input else nn.Identity()
        block.audio_cross_attn = SoundAttention(dim, self._adapter.token_dim)

    def add_to_network(self, network: nn.Module) -> None:
        network.audio_proj = SoundPack(self._adapter)

    def encode(
        self, network: nn.Module, signal_BFTS: Tensor, *, starts: bool, compute_dtype: torch.dtype
    ) -> DrivingFeatures:
        head_dim = self._config.head_dim
        return encode_sound(
            network, self._adapter, signal_BFTS, starts=starts, head_dim=head_dim, compute_dtype=compute_dtype
        )

    def encode_flops(self, num_frames: int) -> int:
        """2 F (E Q H + H^2 + H T X), and keys and values of T tokens of X in N layers: N * 2 F T X 2 D"""
        adapter, config = self._adapter, self._config
        tokens = adapter.num_tokens * adapter.token_dim
        made = adapter.hidden_dim * (adapter.hidden_dim + tokens)
        return 2 * num_frames * (_packing(adapter) + made + config.num_layers * tokens * 2 * config.dim)

    def pass_flops(self, num_tokens: int) -> int:
        """q and o, and attention to the frame's own T tokens, in N layers: N * (2 * 2 L D^2 + 4 L T D)"""
        dim, layers = self._config.dim, self._config.num_layers
        return layers * (4 * num_tokens * dim**2 + 4 * num_tokens * self._adapter.num_tokens * dim)


def _packing(adapter: AdapterConfig | AudioCrossConfig) -> int:
    """E Q H: the product that takes in a latent frame's signal."""
    return adapter.hidden_dim * adapter.num_packed * adapter.signal_dim


def adapter_of(config: NetworkConfig) -> NetworkAdapter:
    """The adapter that a configuration describes: the only place that distinguishes their kinds."""
    if config.adapter is None:
        return NoAdapter()
    kind = CrossAdapter if isinstance(config.adapter, AudioCrossConfig) else AddedAdapter
    return kind(config.adapter, config)


class SoundAttention(nn.Module):
    """Projections of the attention to a latent frame's sound: keys and values in one matrix, no normalisation."""

    def __init__(self, dim: int, token_dim: int) -> None:
        super().__init__()
        self.q_linear = nn.Linear(dim, dim)
        self.kv_linear = nn.Linear(token_dim, 2 * dim)
        self.proj = nn.Linear(dim, dim)


class SignalPack(nn.Module):
    """The signals of one latent frame's pixel frames, concatenated and projected."""

    def __init__(self, config: AdapterConfig) -> None:
        super().__init__()
        self.proj = nn.Linear(config.num_packed * config.signal_dim, config.hidden_dim)
        self.norm_out = nn.LayerNorm(config.hidden_dim, eps=1e-5)  # OmniAvatar's, not Wan's


class SoundPack(nn.Module):
    """The signal of one latent frame as tokens to attend to; the first frame of a driving has fewer entries."""

    def __init__(self, config: AudioCrossConfig) -> None:
        super().__init__()
        hidden, tokens = config.hidden_dim, config.num_tokens
        self.proj1 = nn.Linear(config.num_first * config.signal_dim, hidden)
        self.proj1_vf = nn.Linear(config.num_packed * config.signal_dim, hidden)
        self.proj2 = nn.Linear(hidden, hidden)
        self.proj3 = nn.Linear(hidden, tokens * config.token_dim)
        self.norm = nn.LayerNorm(config.token_dim, eps=1e-5) if config.norm_output else nn.Identity()


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
