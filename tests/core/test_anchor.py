import pytest
import torch

from knot_core.attention_cache import CapturingCache
from knot_core.errors import SettingsError
from knot_core.stream import encode_latent_anchor
from knot_core.stream.denoise import Denoiser, Frames


def encode_at(model, anchor, position):
    """The reference run through the network again, standing at `position`."""
    reference = anchor.reference_BFCHW
    denoiser, cache = Denoiser.of(model, anchor.conditioning.text_BTD, reference_B1CHW=reference), CapturingCache()
    frames = Frames(
        x_BFCHW=reference, sigma_BF=torch.zeros(1, 1), known_BMCHW=reference,
        rope=denoiser.rope([position], reference.shape[-2:]), driving=denoiser.no_signal(1),
    )  # fmt: skip
    with torch.no_grad():
        denoiser.velocity(frames, cache)
    cache.commit(1)
    return cache.layers


@pytest.mark.parametrize("layout", ["inpaint36", "ref33", "t2v16"])
@pytest.mark.parametrize("position", [0, 1, 8, 12, 3_000_008])
def test_moving_the_anchor_equals_encoding_it_anew(make_model, layout, position):
    model = make_model(layout)
    anchor = model.anchor()
    assert anchor.keys
    for moved, encoded in zip(anchor.at(position), encode_at(model, anchor, position), strict=True):
        torch.testing.assert_close(moved, encoded, atol=1e-5, rtol=0)


def test_equal_and_hashed_by_what_it_was_made_of(make_model, model):
    one, same, other = model.anchor(seed=1), model.anchor(seed=1), model.anchor(seed=2)
    prompted = model.anchor(seed=1, text=torch.ones(1, 2, model.config.text_dim))
    assert one == same
    assert len({one, same, other, prompted, make_model(seed=1).anchor(seed=1)}) == 4


def test_it_keeps_its_own_copy_of_the_reference(model):
    latent = torch.ones(1, 1, 16, 4, 6)
    anchor = encode_latent_anchor(model, latent)
    latent.zero_()
    assert anchor.reference_BFCHW.eq(1).all()


def test_encoding_needs_no_gradients(model):
    assert not any(tensor.requires_grad for tensor in (*model.anchor().keys, *model.anchor().values))


@pytest.mark.parametrize("shape", [(1, 2, 16, 4, 6), (2, 1, 16, 4, 6), (1, 1, 4, 4, 6), (1, 16, 4, 6)])
def test_a_reference_of_another_shape_is_refused(model, shape):
    with pytest.raises(SettingsError, match="encode one picture"):
        encode_latent_anchor(model, torch.zeros(shape))


@pytest.mark.parametrize("size", [(5, 6), (4, 7), (0, 6)])
def test_a_reference_that_does_not_divide_into_tokens_is_refused(model, size):
    with pytest.raises(SettingsError, match="both are multiples of 16"):
        encode_latent_anchor(model, torch.zeros(1, 1, 16, *size))
