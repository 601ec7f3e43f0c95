"""Speech features of wav2vec2: the families' own definitions, streamed exactly, on tiny random networks."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as fn
from safetensors.torch import save_file
from torch import Tensor

from knot_core.config import AdapterConfig, AudioCrossConfig
from knot_core.driving import Driving, LiveAudio, SpeechEncoder, SpeechWindow, load_speech_encoder
from knot_core.driving.speech import last_and_all_states, layer_states
from knot_core.driving.wav2vec import _sizes
from knot_core.driving.wav2vec_windows import HeardLayers, Hearing
from knot_core.driving.waveform import Recording
from knot_core.errors import CheckpointError, DrivingError, SettingsError
from knot_core.media import Audio

transformers = pytest.importorskip("transformers", reason="TRANSFORMERS DOES NOT IMPORT: wav2vec2 is not tested")

LAYERS, HIDDEN = 2, 16
SIZES = {
    "hidden_size": HIDDEN,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "conv_dim": (8,) * 7,
    "num_conv_pos_embedding_groups": 4,
}
WINDOW = SpeechWindow(group=12, before=20, ahead=6)


def network(**changes) -> torch.nn.Module:
    torch.manual_seed(0)
    return transformers.Wav2Vec2Model(transformers.Wav2Vec2Config(**SIZES | changes)).eval()


@pytest.fixture(scope="module")
def encoder() -> SpeechEncoder:
    return SpeechEncoder(network())


def speech(num_samples: int, seed: int = 1) -> Tensor:
    """Noise that swells and fades, as syllables do."""
    noise = torch.randn(num_samples, generator=torch.Generator().manual_seed(seed))
    return 0.1 * noise * (1.1 + torch.sin(torch.arange(num_samples) / 900))


def audio(samples: Tensor, sample_rate: int = 16_000) -> Audio:
    return Audio(samples=samples[None], sample_rate=sample_rate)


def livetalk(fps: int = 16) -> SimpleNamespace:
    adapter = AdapterConfig(signal_dim=(LAYERS + 2) * HIDDEN, num_packed=4)
    return SimpleNamespace(adapter=adapter, fps=fps, timing="own")


def infinitetalk() -> SimpleNamespace:
    return SimpleNamespace(adapter=AudioCrossConfig(signal_dim=LAYERS * HIDDEN), fps=25, timing="own")


def test_states_are_the_librarys_where_nothing_is_stretched(encoder):
    samples = speech(16_000)
    normalised = (samples - samples.mean()) / samples.std(correction=0)
    expected = encoder.network(normalised[None], output_hidden_states=True)
    got = encoder.states(samples, 49)  # convolution steps of a second
    assert got.shape == (49, 1 + LAYERS, HIDDEN)
    for number, states in enumerate(expected.hidden_states):
        torch.testing.assert_close(got[:, number], states[0], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(got[:, -1], expected.last_hidden_state[0], atol=1e-5, rtol=1e-5)


def test_the_convolutions_are_stretched_before_the_transformer(encoder):
    samples = speech(16_000)
    steps = []
    handle = encoder.network.feature_projection.register_forward_pre_hook(lambda _, given: steps.append(given[0]))
    encoder.states(samples, 16)
    handle.remove()
    raw = encoder.network.feature_extractor(((samples - samples.mean()) / samples.std(correction=0))[None])
    expected = fn.interpolate(raw, size=16, mode="linear", align_corners=True)
    torch.testing.assert_close(steps[0][0], expected[0].T, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("fps", [16, 25])
def test_livetalk_gets_four_pixel_frames_a_latent_frame_the_first_one_four_times(encoder, fps):
    samples = speech(13 * 16_000 // fps)
    states = encoder.states(samples, 13)
    features = torch.cat([states[:, -1], *states.unbind(1)], dim=-1)  # last_hidden_state, then all hidden_states
    expected = torch.cat([features[:1].expand(3, -1), features]).reshape(4, 4, -1)
    driving = Driving.from_audio(audio(samples), livetalk(fps), encoder=encoder, window=WINDOW)
    assert driving.num_pixel_frames == 13
    torch.testing.assert_close(driving.signal(0, 4), expected)
    torch.testing.assert_close(driving.signal(2, 2), expected[2:])


def test_infinitetalk_gets_windows_of_five_pixel_frames_clamped(encoder):
    samples = speech(13 * 640)
    features = encoder.states(samples, 13)[:, 1:].flatten(1)
    windows = features[(torch.arange(13)[:, None] + torch.arange(-2, 3)).clamp(0, 12)]  # [P, 5, V]
    later = windows[1:].unflatten(0, (3, 4))
    expected = torch.cat([later[:, 0, :3], later[:, 1:3, 2], later[:, 3, 2:]], dim=1)
    driving = Driving.from_audio(audio(samples), infinitetalk(), encoder=encoder, window=WINDOW)
    signal = driving.signal(0, 4)
    assert signal.shape == (4, 8, LAYERS * HIDDEN)
    torch.testing.assert_close(signal[1:], expected)
    torch.testing.assert_close(signal[0, :5], windows[0])
    assert not signal[0, 5:].any()


@pytest.mark.parametrize("make", [livetalk, infinitetalk])
@pytest.mark.parametrize("sample_rate", [16_000, 48_000, 22_050])
def test_speech_that_arrives_in_pieces_is_heard_as_one_shot(encoder, make, sample_rate):
    model, samples = make(), speech(4 * sample_rate)
    whole = Driving.from_audio(audio(samples, sample_rate), model, encoder=encoder, window=WINDOW)
    live = LiveAudio(sample_rate)
    streamed = Driving.from_audio(live, model, encoder=encoder, window=WINDOW)
    done, parts = 0, []
    for piece in samples.split(sample_rate // 7):
        live.push(piece)
        while streamed.num_ready_latents >= done + 3:
            parts.append(streamed.signal(done, 3))
            done += 3
    assert done >= (4 * model.fps - WINDOW.ahead - WINDOW.group) // 4 - 3, "it waits for no more than it must"
    live.close()
    assert streamed.num_ready_latents is None
    assert streamed.num_pixel_frames == whole.num_pixel_frames == 4 * model.fps
    rest = 4 * model.fps // 4 + 3 - done
    got = torch.cat([*parts, streamed.signal(done, rest)])
    torch.testing.assert_close(got, whole.signal(0, done + rest), atol=1e-3, rtol=0)


def hearing(encoder: SpeechEncoder, samples: Tensor, window: SpeechWindow) -> Hearing:
    return Hearing(waveform=Recording(samples), encoder=encoder, window=window, samples_per_frame=640, phase=1,
                   choose=last_and_all_states)  # fmt: skip


def test_sound_within_the_first_window_is_heard_whole(encoder):
    length = WINDOW.group + WINDOW.ahead  # one less than the first window
    samples = speech(640 * length)
    got = hearing(encoder, samples, WINDOW).at(np.arange(length))
    torch.testing.assert_close(torch.from_numpy(got), last_and_all_states(encoder.states(samples, length)))


def test_a_group_is_the_whole_model_on_its_window_alone(encoder):
    samples = speech(640 * 100)
    got = hearing(encoder, samples, WINDOW).at(np.arange(37, 49))
    begin, end = 37 - WINDOW.before, 49 + WINDOW.ahead
    expected = last_and_all_states(encoder.states(samples[640 * begin : 640 * (end - 1) + 400], end - begin))[
        WINDOW.before :
    ][:12]
    torch.testing.assert_close(torch.from_numpy(got), expected)
    changed = samples.clone()
    changed[: 640 * begin], changed[640 * end :] = 0, 0
    assert np.array_equal(hearing(encoder, changed, WINDOW).at(np.arange(37, 49)), got)


def test_at_16_a_second_a_window_hears_every_frame_at_its_own_time(encoder):
    samples = speech(1000 * 100)
    track = Hearing(waveform=Recording(samples), encoder=encoder, window=WINDOW, samples_per_frame=1000, phase=1,
                    choose=last_and_all_states)  # fmt: skip
    got = track.at(np.arange(37, 49))
    # 8 pixel frames are 25 steps: the window runs from frame 16 (37 - 20, at a step) to frame 48 (48 + 7, at a step)
    cut = samples[16_000 : 48_000 + 400]
    assert encoder.network.feature_extractor(cut[None]).shape[-1] == 1 + 4 * 25
    expected = last_and_all_states(encoder.states(cut, 33))[21:]
    torch.testing.assert_close(torch.from_numpy(got), expected)


def test_past_its_end_sound_falls_silent_for_ever_at_no_cost(encoder):
    track = hearing(encoder, speech(640 * 30), WINDOW)
    far, farther = track.at(np.arange(601, 613)), track.at(np.arange(1_200_001, 1_200_013))
    assert np.array_equal(far, farther)
    silence = last_and_all_states(encoder.states(torch.zeros(640 * 37 + 400), 38))[WINDOW.before :][:12]
    torch.testing.assert_close(torch.from_numpy(far), silence)


def test_what_is_not_there_yet_is_refused_and_may_be_asked_for_again(encoder):
    live = LiveAudio()
    driving = Driving.from_audio(live, livetalk(), encoder=encoder, window=WINDOW)
    assert driving.num_ready_latents == 0
    assert driving.num_pixel_frames is None
    live.push(torch.zeros(18 * 1000))
    with pytest.raises(DrivingError, match=r"needs the first 1\.25 s .* 1\.12 s have arrived"):
        driving.signal(0, 4)
    live.push(np.zeros(2000))
    assert driving.num_ready_latents == 4
    assert driving.signal(0, 4).shape == (4, 4, (LAYERS + 2) * HIDDEN)


def test_live_sound_keeps_no_more_than_it_says(encoder):
    live = LiveAudio(keep_seconds=1.0)
    driving = Driving.from_audio(live, livetalk(25), encoder=encoder, window=WINDOW)
    kept, done = [], 0
    for piece in speech(60 * 16_000).split(8_000):
        live.push(piece)
        while driving.num_ready_latents >= done + 3:
            driving.signal(done, 3)
            done += 3
        kept.append(live._samples.numel())
    assert done > 300
    assert max(kept) <= 16_000 + 640 * (WINDOW.before + 2 * WINDOW.group + WINDOW.ahead) + 8_000
    assert len(driving.speech._made) <= 3
    with pytest.raises(DrivingError, match="forgotten"):
        driving.signal(0, 3)
    live.close()
    with pytest.raises(DrivingError, match="closed"):
        live.push(torch.zeros(5))


@pytest.mark.parametrize("sample_rate", [16_000, 44_100])
def test_the_mel_of_live_sound_is_that_of_the_recording(sample_rate):
    samples, live = speech(3 * sample_rate), LiveAudio(sample_rate)
    whole, streamed = Driving.from_audio(audio(samples, sample_rate)), Driving.from_audio(live)
    done, parts = 0, []
    for piece in samples.split(sample_rate // 9):
        live.push(torch.stack([piece, piece]))
        while streamed.num_ready_latents >= done + 2:
            parts.append(streamed.signal(done, 2))
            done += 2
    assert done >= 16
    live.close()
    torch.testing.assert_close(torch.cat([*parts, streamed.signal(done, 4)]), whole.signal(0, done + 4), atol=1e-3,
                               rtol=0)  # fmt: skip
    assert streamed.num_pixel_frames == whole.num_pixel_frames


def test_a_hosts_layers_are_stretched_in_time_afterwards(encoder):
    samples = speech(25 * 640 - 100)  # its last frame is not whole
    steps = encoder.states(samples, 49)
    features = {"encoded_audio_all_layers": list(steps.transpose(0, 1)[:, None]), "audio_samples": samples.numel()}
    driving = Driving.from_speech_features(features, livetalk(25))
    assert driving.num_pixel_frames == 25
    torch.testing.assert_close(driving.pixel_signal(np.arange(25)), last_and_all_states(steps[::2]))
    windows = Driving.from_speech_features(features, infinitetalk())
    assert windows.signal(0, 7).shape == (7, 8, LAYERS * HIDDEN)
    torch.testing.assert_close(windows.signal(2, 1)[0], layer_states(steps[6:21:2]))
    at_16 = Driving.from_speech_features(features, livetalk(16))
    assert at_16.num_pixel_frames == 16
    assert torch.equal(at_16.signal(7, 1)[0, 0], at_16.signal(8, 1)[0, 3]), "past the end the last frame holds"


def test_a_hosts_features_that_do_not_fit_are_refused():
    with pytest.raises(DrivingError, match="lack encoded_audio_all_layers"):
        Driving.from_speech_features({"encoded_audio": torch.zeros(1, 4, 8)}, livetalk())
    large = {"encoded_audio_all_layers": [torch.zeros(1, 49, 1024)] * 25, "audio_samples": 16_000}
    with pytest.raises(DrivingError, match=r"takes 64 numbers a pixel frame, .* of 24 layers of 1024 makes 26624"):
        Driving.from_speech_features(large, livetalk())
    mel = SimpleNamespace(adapter=AdapterConfig(), fps=25, timing="own")
    with pytest.raises(DrivingError, match="takes no wav2vec2 features"):
        Driving.from_speech_features(large, mel)


def test_a_driving_that_the_model_cannot_use_is_refused(encoder):
    sound = audio(speech(16_000))
    with pytest.raises(DrivingError, match="load_speech_encoder"):
        Driving.from_audio(sound, livetalk())
    with pytest.raises(DrivingError, match="speech alone"):
        Driving.from_audio(sound, livetalk(), encoder=encoder, pose=Driving.idle())
    with pytest.raises(DrivingError, match="24 pixel frames a second"):
        Driving.from_audio(sound, livetalk(24), encoder=encoder)
    wide = SimpleNamespace(adapter=AudioCrossConfig(), fps=25, timing="own")
    with pytest.raises(DrivingError, match=r"takes 9216 .* of 2 layers of 16 makes 32"):
        Driving.from_audio(sound, wide, encoder=encoder)
    with pytest.raises(SettingsError, match="ahead is -1"):
        SpeechWindow(group=12, before=20, ahead=-1)


def test_drivings_are_told_apart_by_what_is_heard_and_how(encoder):
    def of(seed: int = 1, fps: int = 16, window: SpeechWindow = WINDOW) -> Driving:
        return Driving.from_audio(audio(speech(16_000, seed)), livetalk(fps), encoder=encoder, window=window)

    assert of() == of()
    assert (
        len({of(), of(seed=2), of(fps=25), of(window=SpeechWindow(group=3, before=20, ahead=6)), of().lasting(5)}) == 5
    )


def test_an_encoder_loads_from_a_folder_or_a_file_of_any_of_its_namings(encoder, tmp_path):
    encoder.network.save_pretrained(tmp_path / "folder")
    (tmp_path / "folder/preprocessor_config.json").write_text('{"do_normalize": false}', encoding="utf-8")
    state = {name: tensor.contiguous() for name, tensor in encoder.network.state_dict().items()}
    old = {"parametrizations.weight.original0": "weight_g", "parametrizations.weight.original1": "weight_v"}
    for new, name in old.items():
        state = {f"{key}".replace(new, name): tensor for key, tensor in state.items()}
    heads = {"lm_head.weight": torch.zeros(3, HIDDEN)}
    save_file({f"wav2vec2.{name}": tensor for name, tensor in state.items()} | heads, tmp_path / "file.safetensors")

    samples = speech(8_000)
    from_folder = load_speech_encoder(tmp_path / "folder")
    assert not from_folder.normalise
    from_folder.normalise = True
    torch.testing.assert_close(from_folder.states(samples, 12), encoder.states(samples, 12))
    found = _sizes({name.removeprefix("wav2vec2."): t for name, t in encoder.network.state_dict().items()})
    assert {key: found[key] for key in SIZES if key != "num_attention_heads"} == {
        key: value for key, value in SIZES.items() if key != "num_attention_heads"
    }
    from_file = load_speech_encoder(tmp_path / "file.safetensors")
    assert from_file.normalise
    assert all(torch.equal(a, b) for a, b in zip(from_file.network.state_dict().values(),
                                                 encoder.network.state_dict().values(), strict=True))  # fmt: skip


def test_a_file_that_is_no_base_wav2vec2_is_refused(tmp_path):
    save_file({"weight": torch.zeros(2)}, tmp_path / "other.safetensors")
    with pytest.raises(CheckpointError, match="is no wav2vec2"):
        load_speech_encoder(tmp_path / "other.safetensors")
    with pytest.raises(CheckpointError, match=r"no config\.json"):
        load_speech_encoder(tmp_path)
    network().save_pretrained(tmp_path / "damaged")
    (tmp_path / "damaged/model.safetensors").write_bytes(b"no weights")
    with pytest.raises(CheckpointError, match="no wav2vec2 that loads"):
        load_speech_encoder(tmp_path / "damaged")
    network().save_pretrained(tmp_path / "other")
    state = network().state_dict()
    del state["encoder.layers.1.attention.k_proj.weight"]
    save_file(state, tmp_path / "other/model.safetensors")
    with pytest.raises(CheckpointError, match=r"encoder\.layers\.1\.attention\.k_proj\.weight is missing"):
        load_speech_encoder(tmp_path / "other")
    large = network(feat_extract_norm="layer", do_stable_layer_norm=True)
    with pytest.raises(CheckpointError, match="structure of the large models"):
        SpeechEncoder(large)


def test_at_full_size_the_signals_have_the_adapters_widths():
    with torch.device("meta"):
        full = transformers.Wav2Vec2Model(transformers.Wav2Vec2Config())
        states = torch.empty(5, 1 + full.config.num_hidden_layers, full.config.hidden_size)
    assert last_and_all_states(states).shape == (5, 10752)
    assert layer_states(states).shape == (5, 9216)
    sizes = _sizes(full.state_dict())
    assert all(getattr(transformers.Wav2Vec2Config(), name) == value for name, value in sizes.items()), sizes
    layers = HeardLayers(layers_NH=torch.zeros(13, 49, 768), num_samples=16_000, samples_per_frame=640,
                         choose=layer_states)  # fmt: skip
    assert layers.at(np.arange(3)).shape == (3, 9216)


def test_a_stream_waits_for_live_speech_and_goes_on_as_if_it_had_been_there(encoder, make_model):
    from knot_core.config import StreamSettings
    from knot_core.stream import open_stream

    adapter = AdapterConfig(signal_dim=(LAYERS + 2) * HIDDEN, num_packed=4, hidden_dim=8, blocks=(0, 2))
    model = make_model("inpaint36", adapter=adapter)
    hears = SimpleNamespace(adapter=model.config.adapter, fps=25, timing="own")
    settings, samples, live = StreamSettings(steps=1), speech(640 * 60), LiveAudio()
    driving = Driving.from_audio(live, hears, encoder=encoder, window=WINDOW)
    stream = open_stream(model, model.anchor(), settings, driving, seed=5)
    with pytest.raises(DrivingError, match="push more samples"):
        next(stream)
    live.push(samples[: 640 * 31])
    first = next(stream)
    live.push(samples[640 * 31 :])
    live.close()
    chunks = [first, *stream]
    whole = Driving.from_audio(audio(samples), hears, encoder=encoder, window=WINDOW)
    expected = list(open_stream(model, model.anchor(), settings, whole, seed=5))
    assert len(chunks) == len(expected)
    assert all(torch.equal(a.latents, b.latents) for a, b in zip(chunks, expected, strict=True))
