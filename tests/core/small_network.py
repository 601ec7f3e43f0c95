"""A small network for tests of files: its configuration, its weights, and whether a network holds them."""

import torch
from torch import Tensor

from knot_core.config import NetworkConfig
from knot_core.wan.network import WanNetwork

CONFIG = NetworkConfig(
    dim=128, ffn_dim=64, num_heads=1, num_layers=2, in_channels=16, layout="t2v16", text_dim=32, freq_dim=32
)


def assert_equal(network: WanNetwork, weights: dict[str, Tensor]) -> None:
    found = network.state_dict()
    assert found.keys() == weights.keys()
    assert all(torch.equal(found[name], weights[name]) for name in weights)
