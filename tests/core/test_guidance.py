"""Guidance: a cache for each branch, their velocities mixed; and samplers along the path."""

import builtins
import itertools
from types import SimpleNamespace

import pytest
import torch

from knot_core import SettingsError
from knot_core.config import AudioCrossConfig, NetworkConfig, StreamSettings
from knot_core.stream import encode_latent_anchor, open_stream, resume_stream
from knot_core.stream.solvers import Euler, UniPC
from knot_core.wan.branches import branches
from knot_core.wan.families import PRESETS
from knot_core.wan.memory import cache_bytes, memory_needed
from knot_core.wan.network_flops import Tokens, chunk_flops

STEPS = {"steps": 3, "num_window_frames": 3}


def texts():
    rng = torch.Generator().manual_seed(1)
    return torch.randn(1, 6, 20, generator=rng), torch.randn(1, 6, 20, generator=rng)


def anchored(model, negative=None):
    text, _ = texts()
    reference = torch.randn(1, 1, 16, 4, 6, generator=torch.Generator().manual_seed(7))
    return encode_latent_anchor(model, reference, text, negative_BTD=negative)


def take(stream, count):
    return [chunk.latents for chunk in itertools.islice(stream, count)]


def made(model, waves, count=3, negative=None, **settings):
    anchor = anchored(model, negative)
    return torch.cat(take(open_stream(model, anchor, StreamSettings(**STEPS, **settings), waves()), count))


def test_guidance_of_1_is_none_and_more_of_it_goes_further(make_model, waves):
    model, away = make_model("t2v16", adapter=None), texts()[1]
    plain = made(model, waves, text_guidance=1.0)
    assert torch.equal(made(model, waves, negative=away, text_guidance=1.0), plain)
    little, much = (made(model, waves, negative=away, text_guidance=scale) for scale in (1.5, 4.0))
    assert 0 < (little - plain).norm() < (much - plain).norm()
    assert not torch.equal(made(model, waves, text_guidance=4.0), much), "no words are another negative prompt"


def test_away_from_the_prompt_itself_there_is_nothing_to_go(make_model, waves):
    """Both branches are then the same pass, and their weights are 1 together."""
    model, text = make_model("t2v16", adapter=None), texts()[0]
    led = made(model, waves, negative=text, text_guidance=3.0)
    assert torch.allclose(led, made(model, waves), atol=1e-4)


def test_at_0_the_stream_is_that_of_the_negative_prompt(make_model, waves):
    """So each branch has a window and an anchor of its own, which only it sees."""
    model, away = make_model("t2v16", adapter=None), texts()[1]
    led = made(model, waves, count=4, negative=away, text_guidance=0.0)
    reference = torch.randn(1, 1, 16, 4, 6, generator=torch.Generator().manual_seed(7))
    alone = open_stream(model, encode_latent_anchor(model, reference, away), StreamSettings(**STEPS), waves())
    assert torch.allclose(led, torch.cat(take(alone, 4)), atol=1e-5)


def test_without_sound_is_zeros_in_its_place(make_model, waves):
    """Guidance 0 takes the silent branch alone: the stream that hears nothing."""
    model = make_model("ref33")

    class Silent:
        num_pixel_frames = None

        def signal(self, _, num_latents):
            return torch.zeros(num_latents, 4, 5)

    led = made(model, waves, count=3, sound_guidance=0.0)
    alone = open_stream(model, anchored(model), StreamSettings(**STEPS), Silent())
    assert torch.allclose(led, torch.cat(take(alone, 3)), atol=1e-5)


CROSS = NetworkConfig(dim=48, ffn_dim=8, num_heads=2, num_layers=1, in_channels=36, layout="inpaint36",
                      adapter=AudioCrossConfig(signal_dim=6))  # fmt: skip


@pytest.mark.parametrize(("text", "sound", "told"), [
    (1, 1, [(False, False, 1)]),
    (5, 1, [(False, False, 5), (True, False, -4)]),
    (1, 4, [(False, False, 4), (False, True, -3)]),
    (4.5, 4.5, [(False, False, 4.5), (True, True, -3.5)]),
    (5, 4, [(False, False, 5), (True, False, -1), (True, True, -3)]),
])  # fmt: skip
def test_branches_of_infinitetalk(text, sound, told):
    found = branches(StreamSettings(text_guidance=text, sound_guidance=sound), CROSS)
    assert [(branch.negative, branch.silent, branch.weight) for branch in found] == told


def test_branches_of_omniavatar_whose_scales_differ_and_of_a_network_without_sound(make_config):
    settings = StreamSettings(text_guidance=5, sound_guidance=4)
    found = branches(settings, make_config("ref33"))
    assert [(branch.negative, branch.silent, branch.weight) for branch in found] == [
        (False, False, 4), (False, True, 1), (True, True, -4)]  # fmt: skip
    assert [branch.weight for branch in branches(settings, make_config("t2v16", adapter=None))] == [5, -4]


@pytest.mark.parametrize("settings", [
    {"text_guidance": 3.0, "sampler": "euler", "num_sink_frames": 2, "rope_positions": "window"},
    {"text_guidance": 3.0, "sound_guidance": 2.0, "commit": "recompute"},
    {"text_guidance": 3.0, "commit": "in_place", "num_sink_frames": 3},
])  # fmt: skip
def test_a_state_has_the_window_of_every_branch(make_model, waves, tmp_path, settings):
    model = make_model("ref33")
    stream = open_stream(model, anchored(model, texts()[1]), StreamSettings(**STEPS, **settings), waves())
    take(stream, 4)
    stream.save(tmp_path / "state")
    resumed = resume_stream(model, tmp_path / "state", waves())
    assert all(torch.equal(one, other) for one, other in zip(take(resumed, 3), take(stream, 3), strict=True))


def test_the_second_cache_counts(make_config):
    config, size = make_config("ref33"), (64, 64)
    alone, twice, thrice = (
        memory_needed(config, StreamSettings(text_guidance=text, sound_guidance=sound), size, torch.float32)
        for text, sound in ((1, 1), (5, 1), (5, 4))
    )
    assert alone.cache == cache_bytes(config, StreamSettings(), 16, torch.float32)
    assert (twice.cache, thrice.cache) == (2 * alone.cache, 3 * alone.cache)
    assert (twice.text, thrice.text) == (2 * alone.text, 2 * alone.text)
    tokens = Tokens(frame=16, text=6, image=0)
    flops = [chunk_flops(config, StreamSettings(text_guidance=text), tokens) for text in (1, 5)]
    assert (flops[1].step, flops[1].commit) == (2 * flops[0].step, 2 * flops[0].commit)


def test_a_family_that_was_distilled_refuses_guidance(make_model, waves):
    model = make_model("t2v16", adapter=None)
    known = SimpleNamespace(**vars(model), preset=PRESETS["self-forcing"])
    with pytest.raises(SettingsError, match=r"text_guidance is 5.*Self-Forcing.*was distilled.*set both to 1"):
        open_stream(known, anchored(model), StreamSettings(text_guidance=5), waves())
    model = SimpleNamespace(**vars(model), preset=PRESETS["wan-t2v"])
    assert len(take(open_stream(model, anchored(model), StreamSettings(text_guidance=5, steps=1), waves()), 1)) == 1


# Samplers


def run(solver, sigmas, x, predict):
    for step, sigma in enumerate(sigmas):
        velocity = predict(x, sigma)
        x0 = x - sigma * velocity
        if step + 1 < len(sigmas):
            x = solver.next(x, x0, velocity, step, sigmas[step + 1])
    return x0


def path(x, sigma):
    """The velocity of a distribution of which everything is known: latents of standard deviation 0.5 round 0."""
    variance = (1 - sigma) ** 2 * 0.25 + sigma**2
    x0 = (1 - sigma) * 0.25 / variance * x
    return (x - x0) / sigma


def test_euler_is_a_step_along_the_velocity():
    x, velocity = torch.randn(1, 2, 3, 2, 2), torch.randn(1, 2, 3, 2, 2)
    moved = Euler().next(x, x - 0.8 * velocity, velocity, 0, 0.5)
    assert torch.allclose(moved, x + (0.5 - 0.8) * velocity, atol=1e-6)


def test_unipc_is_diffusers_and_comes_nearer_to_the_path_s_end_than_euler():
    pytest.importorskip("diffusers", reason="DIFFUSERS DOES NOT IMPORT: unipc is not tested")
    x = torch.randn(1, 3, 16, 4, 4, generator=torch.Generator().manual_seed(0))
    exact = 0.5 * x  # from standard deviation 1 to 0.5
    sigmas = [1 - step / 10 for step in range(10)]
    euler, unipc = (float((run(solver, sigmas, x, path) - exact).norm()) for solver in (Euler(), UniPC(sigmas)))
    assert unipc < euler / 3


@pytest.mark.parametrize("sampler", ["euler", "unipc"])
def test_a_path_needs_the_first_noise_alone_and_is_another_stream(make_model, waves, sampler):
    pytest.importorskip("diffusers", reason="DIFFUSERS DOES NOT IMPORT: unipc is not tested")
    model = make_model("inpaint36")
    found = made(model, waves, sampler=sampler)
    assert found.isfinite().all()
    assert torch.equal(found, made(model, waves, sampler=sampler))
    renoised = made(model, waves)
    assert torch.equal(made(model, waves, sampler=sampler, first_timesteps=(1000.0,))[:3],
                       made(model, waves, first_timesteps=(1000.0,))[:3]), "of one step they are one"  # fmt: skip
    assert not torch.equal(found, renoised)


def test_unipc_without_diffusers_says_how_to_get_it(make_model, waves, monkeypatch):
    real = builtins.__import__

    def without(name, *more):
        if name == "diffusers":
            raise ImportError("no module named diffusers")
        return real(name, *more)

    model = make_model("inpaint36")
    anchor = anchored(model)
    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(SettingsError, match="pip install diffusers, or set sampler to euler"):
        open_stream(model, anchor, StreamSettings(sampler="unipc"), waves())
