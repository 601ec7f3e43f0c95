"""What this engine computes, held against what the peers' own code computed: see `parity/README.md`.

The recordings that lie beside these tests run everywhere; KNOT_PARITY names a folder with more.
"""

import json
import os
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import save_file

from knot_core import Driving
from knot_core.attention_cache import NoCache
from knot_core.codec import load_codec
from knot_core.config import AdapterConfig, NetworkConfig
from knot_core.driving.audio import HOP
from knot_core.driving.audio import WINDOW as CONVOLUTION_REACH
from knot_core.driving.speech import SpeechDriving, _form
from knot_core.driving.wav2vec import at_pixel_frames
from knot_core.flow import noise_levels
from knot_core.media import Audio
from knot_core.model import NUM_GREY_LATENTS, Model
from knot_core.stream import open_stream
from knot_core.stream.denoise import Denoiser, Frames
from knot_core.wan.layouts import Inpaint36
from knot_core.wan.lora import open_lora
from knot_core.wan.network import WanNetwork
from knot_core.wan.preset import plain, with_settings

from .recordings import BOUND, Recording, Rows, error, errors, model_of, open_recorded, settings_of

HERE = Path(__file__).parent / "parity"
FOLDERS = [HERE, *(Path(folder) for folder in [os.environ.get("KNOT_PARITY")] if folder)]
RECORDINGS = {path.stem: Recording(path) for folder in FOLDERS for path in sorted(folder.glob("*.safetensors"))}
RUN: set[str] = set()  # kinds of recordings that a test here asks for
PUBLISHED = (  # recordings of what a family's own configuration runs: its preset alone streams them
    "causal-forcing-chunkwise", "causal-forcing-framewise-1step", "causal-forcing-framewise-2step", "causvid",
    "infinite-forcing-6-1", "krea-server", "livetalk-from-picture", "longlive-12-3", "longlive-prompt-switch",
    "reward-forcing-9-3", "self-forcing-21", "streamdiffusionv2-t2v",
)  # fmt: skip
OTHERS = (
    "infinitetalk-pass", "livetalk-sound-timing", "longlive-infinity", "lora-formats", "omniavatar-sound-packing",
    "self-forcing-rolled-9", "streamdiffusionv2-v2v-levels", "wan-i2v-condition",
)  # fmt: skip


def of_kind(kind: str):
    RUN.add(kind)
    return [pytest.param(found, id=name) for name, found in RECORDINGS.items() if found.case["kind"] == kind]


def test_recordings_that_are_not_here_are_named():
    missing = sorted({*PUBLISHED, *OTHERS} - set(RECORDINGS))
    if missing:
        pytest.skip(f"not found, so not compared: {', '.join(missing)}; KNOT_PARITY names a folder that has them")


@pytest.mark.parametrize("recording", [pytest.param(found, id=name) for name, found in RECORDINGS.items()])
def test_every_recording_is_of_a_kind_that_is_run(recording):
    assert recording.case["kind"] in RUN


@pytest.mark.parametrize("recording", of_kind("stream"))
def test_a_stream_is_the_recorded_one(recording, tmp_path):
    stream = open_recorded(recording, model_of(recording, tmp_path), settings_of(recording))
    found = errors(recording, stream)
    assert max(found) < BOUND, " ".join(f"{value:.1e}" for value in found)


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_preset_alone_streams_what_its_family_publishes(name):
    """So that what a user gets without a setting is what was compared."""
    if name not in RECORDINGS:
        pytest.skip(f"{name} is not here; KNOT_PARITY names a folder that has it")
    recording = RECORDINGS[name]
    assert settings_of(recording) == plain(recording.preset.settings)


# Sound


class StepsOfASound:
    """A speech encoder whose convolutions give the recorded steps of whichever samples are heard, and which has no
    layers: of the sound, sample number i is i.
    """

    num_layers, digest = 0, "recorded"

    def __init__(self, steps_NH):
        self._steps, self.hidden_dim = steps_NH, steps_NH.shape[1]

    def states(self, samples_S, num_pixel_frames, places_P=None):
        first, num_steps = int(samples_S[0]) // HOP, (len(samples_S) - CONVOLUTION_REACH) // HOP + 1
        steps = self._steps[[min(first + step, len(self._steps) - 1) for step in range(num_steps)]]
        return at_pixel_frames(steps.T[None], num_pixel_frames, places_P)[0].T[:, None]


def hearing_model(recording, width, num_states):
    adapter = AdapterConfig(signal_dim=width * num_states, num_packed=4, hidden_dim=4, blocks=(2,))
    return SimpleNamespace(adapter=adapter, timing=recording.preset.timing, fps=recording.preset.fps)


@pytest.mark.parametrize("recording", [found for found in of_kind("array") if found.values[0].has("clips/0/heard")])
def test_speech_of_a_known_length_is_spread_as_recorded(recording):
    assert recording.case["clips"]
    for number, clip in enumerate(recording.case["clips"]):
        steps = recording.tensor(f"clips/{number}/conv_steps")
        model = hearing_model(recording, steps.shape[1], 2)
        sound = Audio(samples=torch.arange(clip["samples"], dtype=torch.float32)[None], sample_rate=16_000)
        driving = SpeechDriving.hearing(sound, model, StepsOfASound(steps), None)
        heard = driving.signal(0, clip["latent_frames"])[..., : steps.shape[1]]
        assert error(heard, recording.tensor(f"clips/{number}/heard")) < BOUND
        features = {"encoded_audio_all_layers": [steps[None]], "audio_samples": clip["samples"]}
        heard = SpeechDriving.of_layers(features, model).signal(0, clip["latent_frames"])[..., : steps.shape[1]]
        assert error(heard, recording.tensor(f"clips/{number}/heard")) < BOUND


@pytest.mark.parametrize("recording", [found for found in of_kind("array") if found.values[0].has("features")])
def test_speech_is_packed_as_recorded(recording):
    """Clip by clip; those after the first repeat latent frames of the one before."""
    rows = recording.tensor("features")
    model = hearing_model(recording, rows.shape[1], 2)
    driving = SpeechDriving(speech=Rows(rows.numpy()), form=_form(model))
    start = 0
    assert recording.case["clips"]
    for number, clip in enumerate(recording.case["clips"]):
        repeated, heard = clip["latent_frames_repeated_from_before"], recording.tensor(f"heard/{number}")
        start -= repeated
        ours = driving.signal(start, clip["latent_frames"])
        assert error(ours[repeated:], heard[repeated:]) == 0
        start += clip["latent_frames"]


# Conditions of a picture, and single passes


def in_float32(tensors):
    return {name: tensor.float() for name, tensor in tensors.items()}


def codec_of(recording, folder):
    save_file(in_float32(recording.part("weights/")), folder / "wan_vae.safetensors")
    return load_codec(folder / "wan_vae.safetensors")


@pytest.fixture
def picture_model(recording, tmp_path):
    """A model of the recording's family and video autoencoder, over a network of some weights."""
    pytest.importorskip("diffusers", reason="DIFFUSERS DOES NOT IMPORT: the Wan VAE is not tested")
    height, width = recording.tensors["picture"].shape[1:]
    preset = replace(recording.preset, height=height, width=width)
    properties = {name: getattr(preset, name) for name in ("unknown_frames", "known_in_x", "timestep_dtype")}
    sizes = {"dim": 48, "ffn_dim": 32, "num_heads": 2, "num_layers": 1, "text_dim": 20, "freq_dim": 16}
    config = NetworkConfig(**sizes, in_channels=36, layout="inpaint36", **properties)
    network = WanNetwork(config).eval().requires_grad_(False)
    where = {"device": torch.device("cpu"), "dtype": torch.float32}
    return Model(network=network, codec=codec_of(recording, tmp_path), config=config, preset=preset, **where)


def shown(model, anchor, settings, num_chunks):
    """Mask and condition channels of the first frames of a stream, as its network meets them."""
    seen = []
    channels = Inpaint36.channels

    def spied(layout, *inputs):
        found = channels(layout, *inputs)
        seen.append(found[0, :, 16:])
        return found

    stream = open_stream(model, anchor, settings, Driving.none())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Inpaint36, "channels", spied)
        for _ in range(num_chunks):
            next(stream)
    passes = len(noise_levels(settings)) + 1  # and the commit
    return [torch.cat(seen[which::passes]) for which in (0, passes - 1)]


@pytest.mark.parametrize("recording", of_kind("condition"))
def test_a_picture_s_condition_is_the_recorded_one(recording, picture_model):
    """The conditions of denoising and of committing, chunk by chunk; and the picture by itself."""
    picture = recording.tensors["picture"].permute(1, 2, 0) / 255
    anchor = picture_model.encode_anchor(picture, text=torch.zeros(1, 4, 20))
    assert error(anchor.reference_BFCHW[0], recording.tensor("picture_latent")) < BOUND
    expected = torch.cat([recording.tensor("mask"), recording.tensor("condition")], dim=1)
    alone = {"text_guidance": 1.0, "sound_guidance": 1.0}  # one pass a step
    settings = with_settings(plain(recording.preset.settings), num_chunk_frames=2, steps=1, **alone)
    for found in shown(picture_model, anchor, settings, -(-len(expected) // 2)):
        assert error(found[: len(expected)], expected) < BOUND


@pytest.mark.parametrize("recording", of_kind("condition"))
def test_grey_pictures_stand_still_in_the_end(recording, picture_model):
    """So the last latent kept stands for all that come: more of them are the same to a ten-millionth."""
    picture = (recording.tensors["picture"] / 255)[None, None]
    pixels = torch.cat([picture, picture.new_full((1, 4 * (NUM_GREY_LATENTS + 6), *picture.shape[2:]), 0.5)], dim=1)
    latents = picture_model.codec.encode(pixels)[0]
    kept = latents[NUM_GREY_LATENTS]
    assert error(latents[NUM_GREY_LATENTS + 1 :], kept) < 1e-6
    assert error(latents[4], kept) > 1e-4, "they do not stand still at once"


@pytest.mark.parametrize("recording", of_kind("pass"))
def test_a_single_pass_is_the_recorded_one(recording, tmp_path):
    """With what the layout makes of picture, latents behind it and noise, whatever stood where the picture is."""
    model, case = model_of(recording, tmp_path), recording.case
    picture, num_frames = recording.tensor("reference_latent"), case["sizes"]["frames"]
    denoiser = Denoiser.of(model, recording.tensor("text"), image_BTE=recording.tensor("image_tokens"))
    audio = recording.tensor("audio").flatten(1)
    signal = SpeechDriving(speech=Rows(audio.numpy()), form=_form(model)).signal(0, num_frames)
    assert case["passes"]
    for number, done in enumerate(case["passes"]):
        condition, x = recording.tensor(f"passes/{number}/condition"), recording.tensor(f"passes/{number}/x")
        pinned = torch.equal(x[:1], picture[0])
        noisy = torch.cat([torch.randn_like(x[:1]), x[1:]]) if pinned else x
        layout = denoiser.layout if pinned else replace(denoiser.layout, known_in_x=False)
        frames = Frames(
            x_BFCHW=layout.pin(noisy[None], picture),
            sigma_BF=torch.full((1, num_frames), done["timestep"] / 1000),
            known_BMCHW=picture,
            rope=denoiser.rope(range(num_frames), tuple(case["sizes"]["latent"])),
            driving=denoiser.driving(signal[None], num_frames, starts=True),
            unknown_BFCHW=condition[None],
        )
        velocity = denoiser.velocity(frames, NoCache())[0]
        assert error(velocity, recording.tensor(f"passes/{number}/velocity")) < BOUND, done["what"]
        assert torch.equal(layout.channels(frames.x_BFCHW, picture, None, condition[None])[0, :, 16:20],
                           recording.tensor("mask"))  # fmt: skip


# LoRAs


@pytest.mark.parametrize("recording", of_kind("lora"))
def test_a_lora_changes_the_weights_that_it_changes_there(recording, tmp_path):
    """File by file, with what its trainer leaves beside it; all other weights stay as they are."""
    base = in_float32(recording.part("base/"))
    assert recording.case["cases"]
    for number, case in enumerate(recording.case["cases"]):
        folder = tmp_path / case["name"]
        folder.mkdir()
        path = folder / "lora.safetensors"
        if case["adapter_config"] is not None:
            path = folder / "adapter_model.safetensors"
            (folder / "adapter_config.json").write_text(json.dumps(case["adapter_config"]), encoding="utf-8")
        save_file(recording.part(f"lora/{number}/"), path, metadata=case["file_metadata"])
        lora = open_lora(path, 1.0, base)
        expected = base | recording.part(f"merged/{number}/")
        errors_of = {name: error(lora.merged(name, base[name]), expected[name]) for name in base}
        assert max(errors_of.values()) < BOUND, f"{case['name']}: {errors_of}"
