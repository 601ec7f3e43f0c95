"""Weights that ship are read as they were written, in half precision or in eight bits."""

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from knot_core.shipped_weights import read_shipped, write_shipped


def small_network() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 64, 3, bias=False), nn.BatchNorm2d(64), nn.Conv2d(64, 64, 5, groups=64), nn.Conv2d(64, 8, 1)
    )


@pytest.mark.parametrize(("eight_bits", "off", "share"), [(False, 1e-3, 0.6), (True, 1e-2, 0.45)])
def test_what_is_read_is_what_was_written_and_the_file_is_small(tmp_path, eight_bits, off, share) -> None:
    torch.manual_seed(0)
    network, path = small_network(), tmp_path / "weights.safetensors"
    with torch.no_grad():
        network[0].weight[0] = 0  # a layer's output that nothing reaches
        network[0].weight[1] *= 1e-2  # one that is small beside the others
    write_shipped(network, path, "small", eight_bits=eight_bits)
    read = read_shipped(small_network(), path, "a small network")
    assert not read.training
    for name, tensor in network.state_dict().items():
        size = tensor.abs().flatten(1).amax(1).max() if tensor.ndim > 1 else tensor.abs().max()
        assert (read.state_dict()[name] - tensor).abs().max() <= off * max(float(size), 1e-6), name
    small = network[0].weight[1].detach()
    assert torch.allclose(read[0].weight[1], small, atol=float(off * small.abs().max()), rtol=0)
    pictures = torch.rand(1, 3, 16, 16)
    wanted, found = network.eval()(pictures), read(pictures)
    assert (found - wanted).norm() < 2 * off * wanted.norm()
    numbers = sum(tensor.numel() for tensor in load_file(path).values() if tensor.numel() > 64)
    assert path.stat().st_size < 4 * numbers * share + 3000
