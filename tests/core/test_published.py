"""Files as they are published, at small size, from the disk to pictures; and at real size, as far as a header goes."""

import json
import logging
import struct
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor

from knot_core import cli
from knot_core.codec.taehv import TAEHV, CodecConfig
from knot_core.config import AdapterConfig, AudioCrossConfig, NetworkConfig
from knot_core.errors import SettingsError
from knot_core.inspection import inspect_checkpoint
from knot_core.model_loading import load_model
from knot_core.stream import open_stream
from knot_core.wan.checkpoint import save_network
from knot_core.wan.families import PRESETS
from knot_core.wan.network import WanNetwork
from knot_core.wan.preset import plain, with_settings

CHANNELS = {"t2v16": 16, "ref33": 33, "inpaint36": 36}
SIZE = (32, 48)  # height, width
TEXT_DIM = 24
SMALL = {"dim": 1536, "ffn_dim": 8960, "num_heads": 12, "num_layers": 30}  # 1.3B


def network(randomised, layout: str = "t2v16", adapter=None, **changes) -> dict[str, Tensor]:
    config = NetworkConfig(**{
        "dim": 128, "ffn_dim": 64, "num_heads": 1, "num_layers": 4, "in_channels": CHANNELS[layout], "layout": layout,
        "text_dim": TEXT_DIM, "freq_dim": 16, "adapter": adapter, **changes})  # fmt: skip
    return randomised(WanNetwork(config), 0).state_dict()


@pytest.fixture
def codec(tmp_path, randomised) -> Path:
    tensors = randomised(TAEHV(CodecConfig(encoder=(4, 4, 4, 4), decoder=(8, 4, 4, 4))), 2).state_dict()
    save_file(tensors, tmp_path / "taew2_1.safetensors")
    return tmp_path / "taew2_1.safetensors"


@dataclass(frozen=True)
class Sound:
    """Signals of any shape, for 20 pixel frames."""

    num_packed: int = 1
    signal_dim: int = 1
    num_pixel_frames: int = 20

    def signal(self, first_latent: int, num_latents: int) -> Tensor:
        frames = torch.arange(first_latent, first_latent + num_latents).view(-1, 1, 1)
        return (frames + torch.linspace(0, 1, self.signal_dim)).sin().expand(-1, self.num_packed, -1)


def stream(model, settings, driving, text: Tensor) -> Tensor:
    image = torch.rand(40, 60, 3, generator=torch.Generator().manual_seed(3))
    anchor = model.encode_anchor(image, size=SIZE, text=text)
    return torch.cat([chunk.latents for chunk in open_stream(model, anchor, settings, driving, seed=1)])


@pytest.fixture
def text() -> Tensor:
    return torch.randn(1, 512, TEXT_DIM, generator=torch.Generator().manual_seed(5))


def test_a_file_like_self_forcings_streams(tmp_path, randomised, codec, text):
    weights = network(randomised)
    named = {f"model._fsdp_wrapped_module.{name}": tensor for name, tensor in weights.items()}
    torch.save({"generator_ema": named}, tmp_path / "self_forcing_dmd.pt")
    save_file(weights, tmp_path / "bare.safetensors")
    model = load_model(tmp_path / "self_forcing_dmd.pt", dtype=torch.float32, codec=codec)
    assert (model.preset, model.fps) == (PRESETS["self-forcing"], 16)
    latents = stream(model, with_settings(model.settings, num_window_frames=3), Sound(), text)
    assert latents.shape == (6, 16, SIZE[0] // 8, SIZE[1] // 8)
    assert latents.isfinite().all()
    bare = load_model(tmp_path / "bare.safetensors", dtype=torch.float32, codec=codec, family="self_forcing")
    assert torch.equal(stream(bare, with_settings(bare.settings, num_window_frames=3), Sound(), text), latents)
    assert not torch.equal(stream(bare, plain(bare.settings), Sound(), text), latents)


@pytest.mark.parametrize("family", [
    "causvid", "longlive", "causal-forcing-1step", "causal-forcing-2step", "reward-forcing", "rolling-forcing", "krea",
    "streamdiffusion-v2"])  # fmt: skip
def test_every_policy_of_a_family_streams(tmp_path, randomised, codec, text, family):
    save_file(network(randomised), tmp_path / f"{family}.safetensors")
    model = load_model(tmp_path / f"{family}.safetensors", dtype=torch.float32, codec=codec)
    assert model.preset.family == family
    assert stream(model, model.settings, Sound(num_pixel_frames=24), text).isfinite().all()


def test_a_file_like_livetalks_streams_and_hears(tmp_path, randomised, codec, text):
    adapter = AdapterConfig(signal_dim=6, num_packed=4, hidden_dim=8, blocks=(2, 3))
    folder = tmp_path / "LiveTalk-1.3B-V0.1"
    folder.mkdir()
    save_file(network(randomised, "ref33", adapter), folder / "model.safetensors")
    model = load_model(folder / "model.safetensors", dtype=torch.float32, codec=codec)
    assert model.preset.family == "livetalk"
    assert (model.config.adapter, model.config.timestep_dtype) == (adapter, "bfloat16")
    heard = stream(model, model.settings, Sound(4, 6), text)
    assert heard.isfinite().all()
    silent = {"signal": lambda _self, _first, num: torch.zeros(num, 4, 6), "num_pixel_frames": 20}
    assert not torch.equal(heard, stream(model, model.settings, type("Silence", (), silent)(), text))


def test_infinitetalks_modules_lie_over_an_i2v_network(tmp_path, randomised, codec, text):
    adapter = AudioCrossConfig(signal_dim=6, hidden_dim=5, num_tokens=4, token_dim=8, norm_output=False)
    weights = network(randomised, "inpaint36", adapter, image_dim=12)
    modules = {name: tensor for name, tensor in weights.items() if "audio" in name or "norm_x" in name}
    save_file(modules, tmp_path / "infinitetalk.safetensors")
    rest = {name: tensor for name, tensor in weights.items() if name not in modules}
    save_file(rest, tmp_path / "wan2.1_i2v_480p_14B.safetensors")
    alone = inspect_checkpoint(tmp_path / "infinitetalk.safetensors")
    assert "as its overlay" in alone["problem"]
    model = load_model(tmp_path / "wan2.1_i2v_480p_14B.safetensors", dtype=torch.float32, codec=codec,
                       overlay=tmp_path / "infinitetalk.safetensors")  # fmt: skip
    assert (model.preset.family, model.config.adapter) == ("infinitetalk", adapter)
    settings = with_settings(model.settings, steps=2)
    assert stream(model, settings, Sound(8, 6), text).isfinite().all()
    base = load_model(tmp_path / "wan2.1_i2v_480p_14B.safetensors", dtype=torch.float32, codec=codec)
    assert (base.preset.family, base.config.image_dim) == ("wan-i2v", 12)


def test_a_lora_is_merged_by_the_public_door(tmp_path, randomised, codec):
    weights = network(randomised)
    save_file(weights, tmp_path / "longlive_base.safetensors")
    name = "blocks.3.ffn.2"
    down, up = torch.randn(2, 64), torch.randn(128, 2)
    lora = {f"base_model.model.{name}.lora_A.weight": down, f"base_model.model.{name}.lora_B.weight": up}
    torch.save({"generator_lora": lora}, tmp_path / "lora.pt")
    model = load_model(tmp_path / "longlive_base.safetensors", dtype=torch.float32, codec=codec,
                       lora=tmp_path / "lora.pt", lora_strength=0.5)  # fmt: skip
    merged = model.network.blocks[3].ffn[2].weight
    assert torch.allclose(merged, weights[f"{name}.weight"] + 0.5 * up @ down, atol=1e-6)


def test_an_unnamed_file_loads_as_the_nearest_and_says_so(tmp_path, randomised, codec, caplog):
    save_file(network(randomised), tmp_path / "mine.safetensors")
    with caplog.at_level(logging.WARNING):
        model = load_model(tmp_path / "mine.safetensors", dtype=torch.float32, codec=codec)
    assert model.preset.family == "self-forcing"
    assert "mine.safetensors: Wan2.1 structure with 16 input channels" in caplog.text
    assert "cannot be told apart by structure" in caplog.text


def hollow(path: Path, config: NetworkConfig) -> None:
    """A safetensors file of a network's real size that takes no room on the disk: a header, and a hole."""
    with torch.device("meta"):
        tensors = WanNetwork(config).state_dict()
    header, end = {}, 0
    for name, tensor in tensors.items():
        start, end = end, end + 2 * tensor.numel()
        header[name] = {"dtype": "BF16", "shape": list(tensor.shape), "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        file.truncate(8 + len(text) + end)


def test_inspect_tells_everything_of_a_full_size_file_from_its_header(tmp_path, capsys):
    path = tmp_path / "longlive.safetensors"
    hollow(path, NetworkConfig(**SMALL, in_channels=16, layout="t2v16"))
    assert cli.main(["inspect", str(path), "--size", "832x480", "--window", "9", "--dtype", "bfloat16"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["family"], found["sure"], found["parameters"]) == ("longlive", True, 1_418_996_800)
    assert (found["missing"], found["unexpected"], found["problem"]) == ([], [], None)
    assert found["timesteps"] == [1000, 937.5, 833.33, 625]
    assert (found["settings"]["num_window_frames"], found["settings"]["num_sink_frames"]) == (9, 3)
    assert found["memory"]["cache_mib_per_latent_frame"] == pytest.approx(287_539_200 / 2**20, abs=0.1)
    assert found["memory"]["cache_mib"] == pytest.approx((3 + 1 + 1 + 3 + 9) * 287_539_200 / 2**20, abs=0.1)
    assert found["memory"]["size"] == "832x480"
    assert "lora.pt" in found["notes"]


def test_inspect_tells_what_a_talking_network_needs(tmp_path):
    adapter = AdapterConfig(signal_dim=10752, num_packed=4, hidden_dim=32, blocks=tuple(range(2, 16)))
    hollow(tmp_path / "model.safetensors", NetworkConfig(**SMALL, in_channels=33, layout="ref33", adapter=adapter))
    found = inspect_checkpoint(tmp_path / "model.safetensors")
    assert (found["family"], found["sure"]) == ("livetalk", False)
    assert "omniavatar cannot be told apart by structure" in found["why"]
    assert (found["speech"], found["needs_text"], found["fps"]) == ("wav2vec2-base-960h", True, 16)
    assert (found["timesteps"], found["schedule"]) == ([1000, 936, 832, 624], [1.0, 0.9375, 0.8333, 0.625])
    assert found["memory"]["cache_mib_per_latent_frame"] == pytest.approx(188_743_680 / 2**20, abs=0.1)


def test_the_command_line_refuses_before_it_loads(tmp_path, capsys):
    hollow(tmp_path / "self_forcing.safetensors", NetworkConfig(**SMALL, in_channels=16, layout="t2v16"))
    model = ["--model", str(tmp_path / "self_forcing.safetensors"), "--reference", "a.png", "--out", "v.mp4"]
    for more, says in (
        (["--audio", "a.wav"], "got no prompt, but Self-Forcing 1.3B is driven by text"),
        (["--audio", "a.wav", "--text", "t.safetensors"], "got speech, but Self-Forcing 1.3B has no audio modules"),
        (["--controls", "c.json", "--text", "t.safetensors"], "got expression controls, but Self-Forcing 1.3B takes"),
        (["--prompt", "a", "--text-encoder", "umt5", "--audio", "a.wav"], "got speech, but Self-Forcing 1.3B has no"),
        (["--idle", "--text", "t.safetensors", "--size", "100"], "multiples of 16"),
        (["--idle", "--text", "t.safetensors", "--family", "wan9"], "the family 'wan9' is not known"),
    ):
        assert cli.main(["animate", *model, *more]) == 1
        assert says in capsys.readouterr().err


def test_the_command_line_asks_for_the_speech_that_a_family_is_driven_by(tmp_path, capsys):
    adapter = AdapterConfig(signal_dim=10752, num_packed=4, hidden_dim=32, blocks=tuple(range(2, 16)))
    hollow(tmp_path / "livetalk.safetensors", NetworkConfig(**SMALL, in_channels=33, layout="ref33", adapter=adapter))
    model = ["--model", str(tmp_path / "livetalk.safetensors"), "--reference", "a.png", "--out", "v.mp4"]
    for more, says in (
        ([], "nothing drives the portrait"),
        (["--idle", "--text", "t.safetensors"], "got no speech, but LiveTalk 1.3B is driven by speech; give --audio"),
        (["--text", "t.safetensors"], "got no speech, but LiveTalk 1.3B"),
        (
            ["--controls", "c.json", "--text", "t.safetensors"],
            "got expression controls, but LiveTalk 1.3B takes speech",
        ),
    ):
        assert cli.main(["animate", *model, *more]) == 1
        assert says in capsys.readouterr().err


@pytest.mark.parametrize("idle", [[], ["--idle"]])
def test_a_prompt_alone_makes_a_video_and_nothing_is_said_of_driving(tmp_path, randomised, codec, text, capsys, idle):
    save_file(network(randomised), tmp_path / "self_forcing.safetensors")
    save_file({"text": text[0]}, tmp_path / "text.safetensors")
    Image.new("RGB", (48, 32), "teal").save(tmp_path / "face.png")
    given = ["--model", str(tmp_path / "self_forcing.safetensors"), "--text", str(tmp_path / "text.safetensors")]
    more = (
        f"--codec {codec} --reference {tmp_path}/face.png --out {tmp_path}/v.mp4 --size 48x32 --seconds 0.5 --steps 1"
    )
    assert cli.main(["animate", *given, *more.split(), "--window", "3", *idle]) == 0
    said = capsys.readouterr()
    assert json.loads(said.out.splitlines()[-1])["pixel_frames"] == 8
    assert "driving" not in said.err


def test_a_prompt_for_a_model_that_reads_none_is_refused_by_name(tmp_path, randomised, text):
    config = NetworkConfig(dim=128, ffn_dim=64, num_heads=1, num_layers=2, in_channels=36, layout="inpaint36",
                           text_dim=TEXT_DIM, freq_dim=16, adapter=AdapterConfig(blocks=(0, 1)))  # fmt: skip
    save_network(tmp_path / "small.safetensors", randomised(WanNetwork(config), 0), PRESETS["knot-tiny"])
    codec = randomised(TAEHV(CodecConfig(encoder=(4, 4, 4, 4), decoder=(8, 4, 4, 4))), 2).state_dict()
    save_file(codec, tmp_path / "small-codec.safetensors")
    model = load_model(tmp_path / "small.safetensors", dtype=torch.float32)
    with pytest.raises(SettingsError, match="got a prompt, but knot-tiny, built in was trained without text"):
        model.encode_anchor(torch.rand(32, 32, 3), text=text)
