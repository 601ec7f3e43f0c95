"""Families: each is recognised by what its file has, streams by its own table, and says what it cannot use."""

import hashlib
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from knot_core.config import AdapterConfig, AudioCrossConfig, NetworkConfig, StreamSettings
from knot_core.errors import CheckpointError, SettingsError
from knot_core.flow import noise_levels, timesteps
from knot_core.wan.checkpoint import open_checkpoint
from knot_core.wan.families import PRESETS, ROWS, find_family
from knot_core.wan.family_inputs import check_inputs
from knot_core.wan.network import WanNetwork
from knot_core.wan.network_building import build_network
from knot_core.wan.preset import LARGE, SMALL, plain, with_settings
from knot_core.wan.recognise import Traits, recognise

CHANNELS = {"t2v16": 16, "ref33": 33, "inpaint36": 36}
SPEECH = AdapterConfig(signal_dim=10752, num_packed=4, hidden_dim=32, blocks=tuple(range(2, 16)))
UNITS = AdapterConfig(signal_dim=122, blocks=(2,))
FOUR = (1000, 937.5, 833.33, 625)


def published(dim: int, layout: str = "t2v16", adapter=None, **changes) -> NetworkConfig:
    """A published network, on its real size."""
    small = dim == SMALL
    sizes = {
        "dim": dim,
        "ffn_dim": 8960 if small else 13824,
        "num_heads": dim // 128,
        "num_layers": 30 if small else 40,
    }
    return NetworkConfig(**sizes, in_channels=CHANNELS[layout], layout=layout, adapter=adapter, **changes)


def outline(config: NetworkConfig) -> dict[str, torch.Tensor]:
    with torch.device("meta"):
        return WanNetwork(config).state_dict()


def tiny(layout: str = "t2v16", adapter=None, **changes) -> NetworkConfig:
    return NetworkConfig(**{
        "dim": 128, "ffn_dim": 64, "num_heads": 1, "num_layers": 3, "in_channels": CHANNELS[layout], "layout": layout,
        "text_dim": 24, "freq_dim": 16, "adapter": adapter, **changes})  # fmt: skip


def traits(row, tail: str = "model.safetensors", wrapper: str = "", dim: int | None = None) -> Traits:
    return Traits(
        in_channels=CHANNELS[row.layout],
        dim=dim or row.widths[0],
        num_layers=30,
        adapter=row.adapter,
        tail=tail,
        wrappers={wrapper},
    )


@pytest.mark.parametrize(("config", "tensors", "parameters"), [
    (published(SMALL), 825, 1_418_996_800),
    (published(LARGE), 1095, None),
    (published(SMALL, "ref33", SPEECH), 857, None),
    (published(LARGE, "ref33", replace(SPEECH, blocks=tuple(range(2, 21)))), 1137, None),
])  # fmt: skip
def test_the_published_networks_have_their_tensors(config, tensors, parameters):
    found = outline(config)
    assert len(found) == tensors
    assert parameters in (None, sum(tensor.numel() for tensor in found.values()))


@pytest.mark.parametrize(("config", "md5"), [
    (published(SMALL, "ref33", SPEECH), "2bf9513c7a3e908015f11a800fc9b820"),
    (published(LARGE, "ref33", replace(SPEECH, blocks=tuple(range(2, 21)))), "883a90b12576b9b8693a08cf690998dd"),
])  # fmt: skip
def test_names_and_shapes_are_those_that_livetalk_itself_asks_for(config, md5):
    """The md5 by which LiveTalk's own loader knows a file: of every name, and every name with its shape, sorted."""
    found = outline(config)
    shaped = [f"{name}:{'_'.join(map(str, tensor.shape))}" for name, tensor in found.items()]
    assert hashlib.md5(",".join(sorted([*found, *shaped])).encode()).hexdigest() == md5


@pytest.mark.parametrize(("tail", "wrapper", "dim", "family"), [
    ("checkpoints/self_forcing_dmd.pt", "generator_ema", SMALL, "self-forcing"),
    ("checkpoints/ode_init.pt", "generator", SMALL, "self-forcing"),
    ("unet/Wan2.1_T2V_1.3B_SelfForcing_DMD-FP8_e4m3fn.safetensors", "", SMALL, "self-forcing"),
    ("autoregressive_checkpoint/model.pt", "generator", SMALL, "causvid"),
    ("models/longlive_base.pt", "generator", SMALL, "longlive"),
    ("chunkwise/causal_forcing.pt", "generator", SMALL, "causal-forcing"),
    ("framewise/causal_forcing.pt", "generator_ema", SMALL, "causal-forcing-framewise"),
    ("causal-forcing++/framewise-2step.pt", "generator_ema", SMALL, "causal-forcing-2step"),
    ("causal-forcing++/framewise-1step.pt", "generator_ema", SMALL, "causal-forcing-1step"),
    ("any/rewardforcing.pt", "", SMALL, "reward-forcing"),
    ("models--SOTAMak1r--Infinite-Forcing/snapshots/1f/ema_model.pt", "generator_ema", SMALL, "infinite-forcing"),
    ("checkpoints/rolling_forcing_dmd.pt", "generator_ema", SMALL, "rolling-forcing"),
    ("any/krea-realtime-video-14b.safetensors", "model.", LARGE, "krea"),
    ("wan_causal_dmd_v2v/model.pt", "generator", SMALL, "streamdiffusion-v2"),
    ("CausVid-Plus/wan_causal_dmd_v2v_14b/model.pt", "generator", LARGE, "streamdiffusion-v2"),
    ("diffusion_models/wan2.1_t2v_14B_fp8_scaled.safetensors", "", LARGE, "wan-t2v"),
    ("Wan2.1-T2V-1.3B/diffusion_pytorch_model.safetensors", "", SMALL, "wan-t2v"),
    ("Self-Forcing/checkpoints/longlive_base.pt", "generator", SMALL, "longlive"),
])  # fmt: skip
def test_alike_weights_are_told_apart_by_their_names(tail, wrapper, dim, family):
    found = recognise(traits(PRESETS["wan-t2v"], tail, wrapper, dim))
    assert (found.preset.family, found.sure) == (family, True)
    assert PRESETS[family].title in found.why


@pytest.mark.parametrize(("tail", "dim", "family", "others"), [
    ("downloads/causal_forcing.pt", SMALL, "causal-forcing", ("causal-forcing-framewise", "causal-forcing-1step")),
    ("framewise/renamed.pt", SMALL, "causal-forcing-framewise", ("causal-forcing-2step", "causal-forcing-1step")),
    ("chunkwise/longvideo.pt", SMALL, "rolling-forcing", ("causal-forcing",)),  # made for its staircase
    ("chunkwise/mine.pt", SMALL, "causal-forcing", ()),
    ("mixed/self_forcing_and_longlive.pt", SMALL, "self-forcing", ("LongLive 1.0 1.3B",)),
    ("any/krea-realtime-video.safetensors", SMALL, "krea", ("another width (5120)",)),
])  # fmt: skip
def test_a_name_that_does_not_tell_is_not_taken_as_sure(tail, dim, family, others):
    found = recognise(traits(PRESETS["wan-t2v"], tail, "", dim))
    assert (found.preset.family, found.sure) == (family, False)
    assert all(other in found.why for other in others), found.why
    assert "name the family if it is another" in found.why


@pytest.mark.parametrize(("layout", "adapter", "dim", "tail", "family", "sure"), [
    ("ref33", "pack", SMALL, "LiveTalk-1.3B-V0.1/model.safetensors", "livetalk", True),
    ("ref33", "pack", LARGE, "merged/omniavatar_14b.safetensors", "omniavatar", True),
    ("ref33", "pack", SMALL, "a/model.safetensors", "livetalk", False),
    ("ref33", "pack", LARGE, "a/model.safetensors", "omniavatar", False),
    ("inpaint36", None, LARGE, "a/model.safetensors", "wan-i2v", True),
    ("inpaint36", "cross", LARGE, "a/model.safetensors", "infinitetalk", True),
    ("inpaint36", "pack", 256, "a/model.safetensors", "knot-tiny", True),
    ("inpaint36", "units", 256, "a/model.safetensors", "knot-face", True),
])  # fmt: skip
def test_structure_tells_the_others(layout, adapter, dim, tail, family, sure):
    found = recognise(Traits(in_channels=CHANNELS[layout], dim=dim, num_layers=4, adapter=adapter, tail=tail,
                             wrappers=()))  # fmt: skip
    assert (found.preset.family, found.sure) == (family, sure)


@pytest.mark.parametrize(("wrapper", "dim", "family"), [
    ("generator_ema", SMALL, "self-forcing"), ("generator", SMALL, "causal-forcing"), ("", SMALL, "self-forcing"),
    ("model.", SMALL, "self-forcing"), ("model.", LARGE, "krea"), ("", LARGE, "krea")])  # fmt: skip
def test_an_unnamed_file_is_taken_for_the_nearest_and_says_so(wrapper, dim, family):
    found = recognise(traits(PRESETS["self-forcing"], "a/model.pt", wrapper, dim))
    assert (found.preset.family, found.sure) == (family, False)
    assert "cannot be told apart by structure" in found.why
    assert "name the family if it is another" in found.why


def test_only_known_channels_stream():
    with pytest.raises(CheckpointError, match=r"20 input channels; networks with 36 .*33 .*16 .*can stream"):
        recognise(replace(traits(PRESETS["wan-t2v"]), in_channels=20))


def plain_schedule(steps: int, shift: float) -> tuple[float, ...]:
    """Wan2.1's own: 1000 s u / (1 + (s - 1) u), of u evenly spaced from 1."""
    levels = [1 - step / steps for step in range(steps)]
    return tuple(1000 * shift * u / (1 + (shift - 1) * u) for u in levels)


def between_schedule(steps: int, shift: float) -> tuple[float, ...]:
    """InfiniteTalk's own: the same, of u evenly spaced from 1 to 0.001, both included."""
    levels = [1 - 0.999 * step / (steps - 1) for step in range(steps)]
    return tuple(1000 * shift * u / (1 + (shift - 1) * u) for u in levels)


# As published: what the network is fed, and what it is fed for the first chunk where that differs.
SCHEDULES = {
    "self-forcing": (FOUR, None),
    "causvid": ((1000, 757, 522), None),
    "longlive": (FOUR, None),
    "causal-forcing": (FOUR, None),
    "causal-forcing-framewise": (FOUR, None),
    "causal-forcing-2step": ((1000, 833.33), FOUR),
    "causal-forcing-1step": ((1000,), FOUR),
    "reward-forcing": (FOUR, None),
    "infinite-forcing": (FOUR, None),
    "rolling-forcing": ((1000, 952.38, 882.35, 769.23, 555.56), None),
    "krea": ((*FOUR, 0), None),
    "streamdiffusion-v2": ((1000, 750, 500, 250, 0), None),
    "livetalk": ((1000, 936, 832, 624), None),
    "knot-tiny": (FOUR, None),
    "knot-face": (FOUR, None),
    # neither causal nor distilled: their own steps and shift (Wan I2V at 480p)
    "wan-t2v": (plain_schedule(50, 5), None),
    "wan-i2v": (plain_schedule(40, 3), None),
    "omniavatar": (plain_schedule(50, 5), None),
    "infinitetalk": (between_schedule(40, 7), None),
}


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.family)
def test_every_family_is_fed_its_own_timesteps(row):
    fed, first = SCHEDULES[row.family]
    assert timesteps(row.settings, dtype=row.timestep_dtype) == pytest.approx(fed, abs=0.01)
    found = timesteps(row.settings, first_chunk=True, dtype=row.timestep_dtype)
    assert found == pytest.approx(first or fed, abs=0.01)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.family)
def test_every_family_has_its_frame_rate_and_size(row):
    """Wan2.1's 16 a second at 832 x 480, but for LiveTalk's squares, and those that were trained on 25 a second."""
    others = {"omniavatar": (25, 832, 480), "infinitetalk": (25, 832, 480), "livetalk": (16, 512, 512),
              "knot-tiny": (25, 128, 128), "knot-face": (25, 256, 256)}  # fmt: skip
    assert (row.fps, row.width, row.height) == others.get(row.family, (16, 832, 480))


def test_livetalk_rounds_what_it_is_fed_and_not_its_noise():
    assert noise_levels(PRESETS["livetalk"].settings) == pytest.approx((1, 0.9375, 0.83333, 0.625), abs=1e-4)


@pytest.mark.parametrize(("family", "levels"), [
    ("causvid", (1, 0.7567567, 0.5217391)),
    ("krea", (1, 0.9375, 0.8333333, 0.625, 0.0049801)),
    ("streamdiffusion-v2", (1, 0.7502577, 0.4997186, 0.25, 0.0079444)),
])  # fmt: skip
def test_levels_of_a_table_are_those_of_its_nearest_row(family, levels):
    """The table has 1000 rows at the family's shift; the network is fed the timestep as it stands."""
    assert noise_levels(PRESETS[family].settings) == pytest.approx(levels, abs=1e-6)


@pytest.mark.parametrize(("family", "chunk", "window_with_chunk", "sinks", "positions"), [
    ("self-forcing", 3, 21, 0, "absolute"),
    ("causvid", 3, 21, 0, "absolute"),
    ("longlive", 3, 12, 3, "absolute"),
    ("causal-forcing", 3, 21, 0, "absolute"),
    ("causal-forcing-framewise", 1, 21, 0, "absolute"),
    ("reward-forcing", 3, 9, 3, "window"),
    ("infinite-forcing", 3, 6, 1, "window"),
    ("rolling-forcing", 3, 21, 3, "window"),
    ("streamdiffusion-v2", 3, 21, 3, "absolute"),
    ("krea", 3, 6, 0, "absolute"),
    ("livetalk", 3, 15, 9, "absolute"),
])  # fmt: skip
def test_windows_are_the_published_ones(family, chunk, window_with_chunk, sinks, positions):
    settings = PRESETS[family].settings
    assert settings.num_chunk_frames == chunk
    assert settings.num_window_frames + settings.num_sink_frames + chunk == window_with_chunk
    assert (settings.num_sink_frames, settings.rope_positions) == (sinks, positions)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.family)
def test_every_family_streams_with_knot_and_anchor_and_without(row):
    assert row.settings.num_knot_frames == 1
    assert row.settings.use_anchor
    assert row.settings.run_ahead_stride > 0
    bare = plain(row.settings)
    starts = (row.adapter is not None or row.layout == "inpaint36") and not row.family.startswith("knot-")
    assert (bare.num_knot_frames, bare.use_anchor, bare.start_from_reference) == (0, False, starts), (
        "networks of a picture were trained with it as their first frame"
    )
    assert replace(bare, num_knot_frames=1, use_anchor=True) == row.settings
    assert row.height % (2 * row.spatial) == row.width % (2 * row.spatial) == 0
    assert row.licence
    assert row.title
    assert (row.adapter is None) == (row.speech is None)


def test_settings_are_overridden_one_by_one():
    settings = PRESETS["causvid"].settings
    assert with_settings(settings, num_window_frames=9) == replace(settings, num_window_frames=9)
    assert with_settings(settings, steps=2) == replace(settings, steps=2, timesteps=()), "steps take their place"
    assert with_settings(settings, timesteps=(900,), steps=2).timesteps == (900,)
    without_sinks = with_settings(PRESETS["reward-forcing"].settings, num_sink_frames=0)
    assert without_sinks.sink_decay == 1, "nothing to fade"
    without_knot = with_settings(PRESETS["livetalk"].settings, num_knot_frames=0)
    assert without_knot.start_from_reference, "a picture needs no knot to be the first frame"
    table = with_settings(settings, shift=5)
    assert (table.timesteps, table.sigma_table) == ((1000, 757, 522), True), "the shift is the table's"
    with pytest.raises(SettingsError, match=r"no setting windows; there are num_chunk_frames, "):
        with_settings(settings, windows=3)
    with pytest.raises(SettingsError, match="num_window_frames is -1"):
        with_settings(settings, num_window_frames=-1)


def test_families_that_were_trained_for_guidance_have_their_own_scales_and_path():
    settings = {row.family: row.settings for row in ROWS}
    found = {name: (own.sampler, own.text_guidance, own.sound_guidance) for name, own in settings.items()}
    guided = {name for name, (sampler, *scales) in found.items() if sampler != "renoise" or scales != [1, 1]}
    assert guided == {row.family for row in ROWS if row.takes_guidance}
    assert {name: found[name] for name in guided} == {
        "wan-t2v": ("euler", 5, 1),
        "wan-i2v": ("euler", 5, 1),
        "omniavatar": ("euler", 4.5, 4.5),
        "infinitetalk": ("euler", 5, 4),
    }


def test_families_are_found_by_name():
    assert find_family("Self_Forcing") is PRESETS["self-forcing"]
    with pytest.raises(CheckpointError, match=r"'wan3' is not known; these stream here: self-forcing, .*knot-tiny"):
        find_family("wan3")


@pytest.mark.parametrize(("family", "given", "says"), [
    ("self-forcing", {"has_text": False}, "got no prompt, but Self-Forcing 1.3B is driven by text"),
    ("self-forcing", {"has_text": True, "has_speech": True}, "has no audio modules; leave it out, or take livetalk"),
    ("krea", {"has_text": True, "has_controls": True}, "takes neither these nor speech; leave them out, or take knot"),
    ("livetalk", {"has_text": True, "has_controls": True}, r"LiveTalk 1\.3B takes speech; leave them out"),
    ("livetalk", {"has_speech": True}, "got no prompt"),
    ("knot-tiny", {"has_text": True}, "got a prompt, but knot-tiny, built in was trained without text"),
])  # fmt: skip
def test_what_a_family_cannot_use_is_refused_by_name(family, given, says):
    adapter = {"knot-tiny": AdapterConfig(), "livetalk": SPEECH}.get(family)
    config = tiny("ref33" if adapter else "t2v16", adapter, num_layers=16)
    with pytest.raises(SettingsError, match=says):
        check_inputs(PRESETS[family], config, **given)


@pytest.mark.parametrize(("family", "adapter", "given"), [
    ("self-forcing", None, {"has_text": True}),
    ("livetalk", SPEECH, {"has_text": True, "has_speech": True}),
    ("infinitetalk", AudioCrossConfig(), {"has_text": True, "has_speech": True}),
    ("knot-tiny", AdapterConfig(), {"has_speech": True, "has_controls": True}),
    ("knot-tiny", AdapterConfig(), {}),
    ("knot-face", UNITS, {"has_speech": True, "has_controls": True}),
])  # fmt: skip
def test_what_it_can_use_is_not(family, adapter, given):
    check_inputs(PRESETS[family], tiny("inpaint36", adapter, num_layers=16), **given)


@pytest.mark.parametrize("config", [
    tiny(),
    tiny("ref33", AdapterConfig(signal_dim=7, hidden_dim=4, blocks=(2,)), timestep_dtype="bfloat16"),
    tiny("inpaint36", image_dim=12, unknown_frames="grey"),
    tiny("inpaint36", AudioCrossConfig(signal_dim=6, hidden_dim=5, num_tokens=4, token_dim=8), image_dim=12,
         unknown_frames="grey", known_in_x=True),
    tiny("inpaint36", AudioCrossConfig(signal_dim=6, hidden_dim=5, norm_input=False, norm_output=False),
         unknown_frames="grey", known_in_x=True),
    tiny("inpaint36", UNITS),
], ids=["t2v", "livetalk", "i2v", "infinitetalk", "multitalk", "units"])  # fmt: skip
def test_every_structure_is_read_from_shapes(tmp_path, randomised, config):
    weights = randomised(WanNetwork(config), 0).state_dict()
    save_file(weights, tmp_path / "m.safetensors")
    checkpoint = open_checkpoint(tmp_path / "m.safetensors")
    assert checkpoint.config == config
    assert build_network(checkpoint).state_dict().keys() == weights.keys()


def test_the_user_has_the_last_word(tmp_path, randomised):
    weights = randomised(WanNetwork(tiny()), 0).state_dict()
    save_file(weights, tmp_path / "self_forcing.safetensors", metadata={"family": "longlive", "fps": "12"})
    found = open_checkpoint(tmp_path / "self_forcing.safetensors")
    assert (found.family, found.preset.fps) == ("longlive", 12)
    found = open_checkpoint(tmp_path / "self_forcing.safetensors", family="causvid")
    assert found.preset == PRESETS["causvid"]
    assert found.recognised.why == "the user says so"
    assert StreamSettings.from_dict(found.preset.settings.to_dict()) == found.preset.settings


def test_every_family_has_its_section_and_its_row():
    """Where its files are, what is tested, and what only its real weights tell."""
    lines = (Path(__file__).resolve().parents[2] / "docs/families.md").read_text(encoding="utf-8").splitlines()
    sections = "".join(line for line in lines if line.startswith("###"))
    rows = "".join(line for line in lines if line.startswith("| `"))
    families = set(PRESETS) - {"knot-tiny", "knot-face"}
    assert len(families) > 10
    for family in families:
        parent, _, variant = family.rpartition("-")
        assert f"`{family}`" in sections or (f"`{parent}`" in sections and f"`-{variant}`" in sections), family
        assert f"`{family}`" in rows or f"`-{variant}`" in rows, family
