"""What several tests of live sessions share."""

import pytest
import torch

from knot_live.engine import load_model


@pytest.fixture(scope="session")
def model():
    """The built-in model, loaded once; no test changes it."""
    return load_model("knot-tiny")


@pytest.fixture(scope="session")
def encoded(model):
    """An anchor of noise: `encoded(seed, side)`, of that many pixels a side."""

    def make(seed, side):
        picture = torch.rand(side, side, 3, generator=torch.Generator().manual_seed(seed))
        return model.encode_anchor(picture, size=(side, side))

    return make
