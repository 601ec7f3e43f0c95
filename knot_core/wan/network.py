"""The Wan2.1 module tree. Attribute names are the checkpoint's keys; the computation is in forward.py.

Shapes: B batch, F latent frames, C channels, H W latent size, h w token rows and columns, D model dim.
"""

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from ..config import NetworkConfig
from ..geometry import PATCH
from .adapters import adapter_of


class PatchEmbedding(nn.Conv3d):
    """Conv3d whose kernel equals its stride, [B, C, F, H, W] -> [B, D, F, h, w], computed as a linear map."""

    def __init__(self, in_channels: int, dim: int) -> None:
        patch = (1, PATCH, PATCH)
        super().__init__(in_channels, dim, kernel_size=patch, stride=patch)

    def forward(self, x_BCFHW: Tensor) -> Tensor:
        patches = rearrange(x_BCFHW, "b c f (h p) (w q) -> b f h w (c p q)", p=PATCH, q=PATCH)
        return rearrange(F.linear(patches, self.weight.flatten(1), self.bias), "b f h w d -> b d f h w")


class SelfAttention(nn.Module):
    """Projections of an attention; q and k are normalised over the full width, before the heads are split."""

    def __init__(self, dim: int, eps: float) -> None:
        super().__init__()
        self.q = nn.Linear(dim, dim)
        self.k = nn.Linear(dim, dim)
        self.v = nn.Linear(dim, dim)
        self.o = nn.Linear(dim, dim)
        self.norm_q = nn.RMSNorm(dim, eps=eps)
        self.norm_k = nn.RMSNorm(dim, eps=eps)


class CrossAttention(SelfAttention):
    """`SelfAttention` with keys and values of the text, and in I2V networks of the reference's CLIP tokens."""

    def __init__(self, dim: int, eps: float, *, with_image: bool) -> None:
        super().__init__(dim, eps)
        if with_image:
            self.k_img = nn.Linear(dim, dim)
            self.v_img = nn.Linear(dim, dim)
            self.norm_k_img = nn.RMSNorm(dim, eps=eps)


class Block(nn.Module):
    """Transformer block: self-attention, cross-attention, feed-forward; 6-way modulation by the time embedding."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        dim, eps = config.dim, config.eps
        self.norm1 = nn.LayerNorm(dim, eps, elementwise_affine=False)
        self.self_attn = SelfAttention(dim, eps)
        self.norm3 = nn.LayerNorm(dim, eps)
        self.cross_attn = CrossAttention(dim, eps, with_image=config.image_dim is not None)
        adapter_of(config).add_to_block(self)
        self.norm2 = nn.LayerNorm(dim, eps, elementwise_affine=False)
        self.ffn = nn.Sequential(
            nn.Linear(dim, config.ffn_dim), nn.GELU(approximate="tanh"), nn.Linear(config.ffn_dim, dim)
        )
        self.modulation = nn.Parameter(torch.zeros(1, 6, dim))


class Head(nn.Module):
    """Tokens to patches of velocity."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(config.dim, config.eps, elementwise_affine=False)
        self.head = nn.Linear(config.dim, config.out_channels * PATCH * PATCH)
        self.modulation = nn.Parameter(torch.zeros(1, 2, config.dim))


class ImageEmbedding(nn.Module):
    """CLIP tokens of the reference as context of an I2V network."""

    def __init__(self, image_dim: int, dim: int) -> None:
        super().__init__()
        self.proj = nn.Sequential(
            nn.LayerNorm(image_dim, eps=1e-5), nn.Linear(image_dim, image_dim), nn.GELU(),
            nn.Linear(image_dim, dim), nn.LayerNorm(dim, eps=1e-5),
        )  # fmt: skip


class WanNetwork(nn.Module):
    """The module tree of a Wan2.1 network. `wan_forward` runs it, and any other tree with these names."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.config = config
        dim = config.dim
        self.patch_embedding = PatchEmbedding(config.in_channels, dim)
        self.text_embedding = nn.Sequential(
            nn.Linear(config.text_dim, dim), nn.GELU(approximate="tanh"), nn.Linear(dim, dim)
        )
        self.time_embedding = nn.Sequential(nn.Linear(config.freq_dim, dim), nn.SiLU(), nn.Linear(dim, dim))
        self.time_projection = nn.Sequential(nn.SiLU(), nn.Linear(dim, 6 * dim))
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.num_layers))
        self.head = Head(config)
        if config.image_dim is not None:
            self.img_emb = ImageEmbedding(config.image_dim, dim)
        adapter_of(config).add_to_network(self)


def init_weights(network: WanNetwork, rng: torch.Generator) -> WanNetwork:
    """Initial weights for training, as in Wan2.1: Xavier for linear layers, N(0, 1/dim) for modulation, zeros in the
    head.
    """
    for module in network.modules():
        if isinstance(module, nn.Linear | nn.Conv3d):
            nn.init.xavier_uniform_(module.weight.flatten(1), generator=rng)
            nn.init.zeros_(module.bias)
    for embedding in (*network.text_embedding, *network.time_embedding):
        if isinstance(embedding, nn.Linear):
            nn.init.normal_(embedding.weight, std=0.02, generator=rng)
    for module in (*network.blocks, network.head):
        nn.init.normal_(module.modulation, std=network.config.dim**-0.5, generator=rng)
    nn.init.zeros_(network.head.head.weight)
    return network


def cast_weights(network: WanNetwork, dtype: torch.dtype) -> WanNetwork:
    """Cast, in place, the matrices that compute in `dtype`; norms, modulation, time and driving stay in float32.

    For float64 everything is cast: nothing may be less precise than the matrices.
    """
    if dtype == torch.float64:
        return network.double()
    parts = (network.patch_embedding, network.text_embedding, network.head.head, getattr(network, "img_emb", None))
    for module in (*parts, *network.blocks):
        for matrix in () if module is None else module.modules():
            if isinstance(matrix, nn.Linear | nn.Conv3d):
                matrix.to(dtype)
    return network
