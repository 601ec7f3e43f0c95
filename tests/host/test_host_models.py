"""Wan models that the host loaded, streamed by the pack. The host's Python computes (probe.py); this is what must hold.

Weights are small and random, of the exact structure of public files: this proves that the pack computes with a MODEL
what the engine computes with its file, not how good a video looks.
"""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from .. import archive
from .comfyui import host_python, host_version
from .conftest import HOSTS, NO_HOST

pytestmark = pytest.mark.host

EXACT = 1e-4  # float32, latents of about 4
PROBE = Path(__file__).with_name("probe.py")
PROBE_LIMIT = 3600  # seconds; a minute and a half on two idle cores
MIB = 2**20
Json = dict[str, Any]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "found" in metafunc.fixturenames:
        hosts = HOSTS or [pytest.param(None, marks=pytest.mark.skip(reason=NO_HOST))]
        ids = [f"comfyui-{host_version(host)}" for host in HOSTS] or ["no-comfyui"]
        metafunc.parametrize("found", hosts, indirect=True, scope="session", ids=ids)


@pytest.fixture(scope="session")
def found(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Json:
    """What one process of this host found out, by check."""
    scratch, host = tmp_path_factory.mktemp("probe"), request.param
    archive.install(scratch / "pack")
    command = [host_python(host), str(PROBE), str(host), str(scratch / "pack"), str(scratch)]
    environment = os.environ | {"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "2")}
    run = subprocess.run(
        command, cwd=host, env=environment, capture_output=True, text=True, timeout=PROBE_LIMIT, check=False
    )
    assert run.returncode == 0, run.stderr[-4000:]
    return json.loads((scratch / "found.json").read_text(encoding="utf-8"))


def result(found: Json, check: str) -> Json:
    assert "error" not in found[check], found[check]["error"]
    if "skipped" in found[check]:
        pytest.skip(found[check]["skipped"])
    return found[check]


@pytest.mark.parametrize("check", ["t2v", "prefixed", "wrapped", "i2v", "fp8", "bf16"])
def test_a_model_of_the_host_streams_as_its_file_does(found: Json, check: str) -> None:
    """T2V, also with a prefix and out of a training's .pt; I2V with image tokens; weights in fp8 and bfloat16."""
    got = result(found, check)
    assert got["finite"]
    assert got["scale"] > 0.5, "nothing was drawn"
    assert got["apart"] < EXACT


def test_a_wrapped_file_becomes_a_model_that_the_host_manages(found: Json) -> None:
    got = result(found, "wrapped")
    assert got["family"] == "self-forcing"
    assert "ModelPatcher" in got["patcher"]
    assert got["again"] < EXACT, "its MODEL output streams the same"


def test_i2v_sees_the_clip_tokens(found: Json) -> None:
    got = result(found, "i2v")
    assert got["family"] == "wan-i2v"
    assert got["moved_by_clip_vision"] > 100 * EXACT


@pytest.mark.parametrize("way", ["ours", "stock", "behind"])
def test_livetalk_hears_through_the_hosts_encoder(found: Json, way: str) -> None:
    """Loaded by the pack; by the stock loader with its audio modules beside it; from the MODEL that the pack gave."""
    got = result(found, "livetalk")
    assert got["finite"]
    assert got[way] < EXACT
    assert got["heard"] > 100 * EXACT, "speech changes nothing"


def test_livetalk_without_its_audio_modules_or_encoder_says_so(found: Json) -> None:
    got = result(found, "livetalk")
    assert "audio modules" in got["refused"]
    assert "audio_encoder" in got["unheard"]
    assert "Driving from Audio" in got["undriven"]
    assert got["stretched"]["finite"]


def test_infinitetalks_modules_hear_beside_a_stock_i2v_network(found: Json) -> None:
    got = result(found, "infinitetalk")
    assert got["family"] == "infinitetalk"
    assert got["finite"]
    assert got["apart"] < EXACT
    assert got["heard"] > 100 * EXACT, "speech changes nothing"
    assert "audio modules" in got["refused"]
    assert "fp8.safetensors for audio modules, which holds none" in got["no_modules"]
    assert "audio_cross_attn.proj.weight of [512, 512], wanted [256, 256]" in got["other_width"]
    assert "not finite" in got["poisoned"]


def test_a_lora_moves_the_result_as_merging_it_by_hand_does(found: Json) -> None:
    got = result(found, "lora")
    assert got["moved"] > 100 * EXACT
    assert got["apart"] < EXACT
    assert got["again"] == 0, "after a stream without it on the same weights"
    assert got["peft"] < EXACT, "in LongLive's style, by Load Knot Forcing Model"
    assert got["dora"] < EXACT, "with a magnitude, by Load Knot Forcing Model"
    assert got["dora_moved"] > 100 * EXACT


def test_fp8_weights_stay_fp8(found: Json) -> None:
    """Where the user says so; by itself ComfyUI keeps a file's fp8 only on devices that compute with it."""
    got = result(found, "fp8")
    assert "float8" in got["dtype"]
    assert got["cast"]["finite"]
    assert got["cast"]["apart"] < 0.2 * got["scale"], "all matrices in fp8, against those of the blocks"


def test_a_network_in_bfloat16_keeps_norms_and_time_in_float32(found: Json) -> None:
    got = result(found, "bf16_in_bf16")
    assert got["dtype"] == "torch.bfloat16"
    assert got["finite"]
    assert got["apart"] < 0.1 * got["scale"]


def test_a_partly_loaded_model_streams_the_same(found: Json) -> None:
    got = result(found, "partly_loaded")
    assert got["partly"]
    assert 0.1 * got["weights"] < got["loaded"] < 0.6 * got["weights"]
    assert got["apart"] < EXACT


def test_a_vae_of_the_host_decodes_in_chunks_as_in_one_go(found: Json) -> None:
    got = result(found, "vae")
    assert got["chunks_equal"]
    assert got["theirs"] < 1e-4
    assert got["encoded"] < 1e-5
    assert [shape[0] for shape in got["shapes"]] == [9, 7]
    assert got["shapes"][0][1:] == [32, 32, 3]


def test_a_prompt_alone_streams_without_an_anchor(found: Json) -> None:
    got = result(found, "text_only")
    assert got["finite"]
    assert got["plain"]
    assert got["moved_by_prompt"] > 100 * EXACT
    assert got["as_without_anchor"] < EXACT


@pytest.mark.parametrize(
    ("what", "word"),
    [
        ("no_prompt", "prompt"), ("speech", "speech"), ("controls", "controls"), ("prompt_for_tiny", "prompt"),
        ("size", "16"), ("room", "num_window_frames"), ("no_codec", "VAE"), ("other_anchor", "anchor"),
        ("no_model", "Linear"), ("tiny_is_no_model", "MODEL"),
    ],
)  # fmt: skip
def test_what_cannot_be_used_is_refused_by_name(found: Json, what: str, word: str) -> None:
    assert word in result(found, "refusals")[what]


@pytest.mark.parametrize("node", ["ours", "stock"])
def test_a_family_that_nothing_tells_is_warned_of_on_the_node(found: Json, node: str) -> None:
    got = result(found, "unsure")
    (text,) = got[f"{node}_auto"]
    assert "self-forcing" in text, "what it was taken for"
    assert "causvid" in text, "what it may be as well"
    assert "widget family" in text, "how to say it"
    assert got[f"{node}_causvid"] == [], "once it is named"


def test_the_stream_is_the_hosts_own_causal_sampler(found: Json) -> None:
    """Knot 0, no anchor, Self-Forcing's schedule; 21 frames, which the window holds as a whole."""
    clips = result(found, "causal_sampler")["clips"]
    assert clips
    for clip in clips:
        assert clip["finite"]
        assert clip["apart"] < EXACT


def test_the_stream_is_no_slower_than_the_hosts_sampler_and_does_not_grow(found: Json) -> None:
    """The figures: `python tests/host/probe.py COMFYUI_FOLDER PACK_FOLDER SCRATCH_FOLDER causal_sampler`."""
    short, long = result(found, "causal_sampler")["clips"]
    assert long["our_seconds"] <= 1.1 * long["their_seconds"], "both per chunk, in one run; a tenth for noise"
    assert long["our_bytes"] == short["our_bytes"]
    assert long["their_bytes"] == long["chunks"] / short["chunks"] * short["their_bytes"]
    assert long["our_bytes"] < long["their_bytes"]


def test_memory_is_flat_over_200_chunks(found: Json) -> None:
    got = result(found, "flat_memory")
    assert got["chunks"] == 200
    assert got["after_200"] - got["after_40"] < 8 * MIB
