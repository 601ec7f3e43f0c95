"""State files of every released version go on, and a model keeps its fingerprint from version to version."""

import pytest
import torch
from safetensors.torch import load_file

from knot_core.model_loading import load_model
from knot_core.stream import fingerprint, load_stream, resume_stream
from knot_core.stream.state_file import READABLE

from .stored_states import CASES, FIXTURES, counted

STORED = sorted(FIXTURES.glob("v*/states/*.safetensors"))
STATES = [path for path in STORED if not path.name.endswith(".next.safetensors")]
BOUND = 1e-4  # of the largest value: other machines sum in another order


def label(path):
    return f"{path.parts[-3]} {path.stem}"


def test_every_case_is_stored_in_each_version():
    """A file of version N lies in vN."""
    assert {(path.parts[-3], path.stem) for path in STATES} == {
        (f"v{version}", name) for version in READABLE for name, case in CASES.items() if case.since <= version
    }


@pytest.mark.parametrize("path", STATES, ids=label)
def test_a_stored_state_goes_on_with_the_chunk_that_came_then(path):
    case = CASES[path.stem]
    chunk = next(resume_stream(case.model(), path, case.driving))
    wanted = load_file(path.with_suffix(".next.safetensors"))["latents"]
    assert wanted.abs().max() > 0.1
    assert (chunk.latents - wanted).abs().max() <= BOUND * wanted.abs().max()


@pytest.mark.parametrize("path", STATES, ids=label)
def test_what_was_stored_beside_the_cache_is_read(path):
    saved = load_stream(path, CASES[path.stem].model())
    assert torch.equal(saved.anchor.reference_BFCHW, counted(*saved.anchor.reference_BFCHW.shape))
    assert (saved.anchor.grey_BGCHW is not None) == (path.stem == "heard")
    assert (saved.state.recache != "") == (path.stem == "prompted")
    assert (saved.state.driving_origin > 0) == (path.stem == "prompted")


@pytest.mark.parametrize("path", STATES, ids=label)
def test_so_is_the_prompt(path):
    told = load_stream(path, CASES[path.stem].model()).conditioning
    if path.stem == "prompted":
        assert torch.equal(told.text_BTD, counted(*told.text_BTD.shape).flip(1))
        assert torch.equal(told.negative_BTD, counted(*told.negative_BTD.shape, scale=0.5))
        assert torch.equal(told.image_BTE, counted(*told.image_BTE.shape))
    elif path.stem == "heard":
        assert torch.equal(told.text_BTD, counted(1, 4, 8))
    else:
        assert torch.equal(told.text_BTD, torch.zeros(1, 1, 8))


@pytest.mark.parametrize("path", [path for path in STATES if path.stem == "shown"], ids=label)
def test_so_are_the_pictures(path):
    case = CASES["shown"]
    saved, now = load_stream(path, case.model()), case.stream(case.model(), case.driving)
    assert torch.equal(saved.anchor.picture_HWC, now.anchor.picture_HWC)
    assert torch.equal(saved.state.shown.picture_HWC, now.state.shown.picture_HWC)
    assert not torch.equal(saved.state.shown.picture_HWC, saved.anchor.picture_HWC)


@pytest.mark.parametrize(
    ("dtype", "wanted"),
    [(torch.float32, "16480fc88dc0ffae79e1ed29f36149c3"), (torch.bfloat16, "eadbbbfd9a27e130f11919f3ec1c6861")],
    ids=["float32", "bfloat16"],
)
def test_states_of_the_built_in_model_still_belong_to_it(dtype, wanted):
    assert fingerprint(load_model("knot-tiny", dtype=dtype)) == wanted
