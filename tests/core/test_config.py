import json

import pytest

from knot_core.config import AdapterConfig, AudioCrossConfig, NetworkConfig, StreamSettings, takes_controls
from knot_core.errors import CheckpointError, SettingsError


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"num_chunk_frames": 0}, "num_chunk_frames is 0"),
        ({"num_chunk_frames": 2.0}, "num_chunk_frames is 2.0"),
        ({"num_knot_frames": -1}, "num_knot_frames is -1"),
        ({"num_knot_frames": 4}, "longer than a chunk"),
        ({"num_window_frames": -1}, "num_window_frames is -1"),
        ({"run_ahead_stride": -4}, "run_ahead_stride is -4"),
        ({"run_ahead_start": True}, "run_ahead_start is True"),
        ({"steps": 0}, "steps is 0"),
        ({"shift": 0.5}, "shift is 0.5"),
        ({"shift": float("nan")}, "shift is nan"),
        ({"fusion": 1.5}, "fusion is 1.5"),
        ({"fusion": "half"}, "fusion is 'half'"),
        ({"use_anchor": "no"}, "use_anchor is 'no'"),
        ({"num_sink_frames": -1}, "num_sink_frames is -1"),
        ({"num_sink_frames": 3, "sink_decay": 1.5}, "sink_decay is 1.5"),
        ({"sink_decay": 0.9}, "there are no sinks"),
        ({"rope_positions": "relative"}, "'relative'.* absolute, window"),
        ({"timesteps": (1000, 1000)}, "each lower than the one before"),
        ({"timesteps": (1000, 0)}, "end at 0.*turn sigma_table on"),
        ({"timesteps": (1000, -1), "sigma_table": True}, "from 0 to 1000"),
        ({"sigma_table": 1}, "sigma_table is 1"),
        ({"commit": "dirty"}, "'dirty'.* clean, none, in_place, recompute"),
        ({"commit": "in_place"}, "0 sinks and a window of 6 for chunks of 3"),
        ({"commit": "in_place", "num_sink_frames": 3, "num_window_frames": 4}, "multiples of 3"),
        ({"commit": "recompute", "num_sink_frames": 3}, "keeps no sinks"),
        ({"sampler": "heun"}, "'heun'.* renoise, euler, unipc"),
        ({"text_guidance": -1}, "text_guidance is -1"),
        ({"commit": "none", "num_sink_frames": 3, "sink_decay": 0.9}, "no sinks that follow or fade"),
        ({"timesteps": 1000}, "timesteps are 1000"),
        ({"first_timesteps": (1001.0,)}, "first_timesteps are"),
    ],
)
def test_stream_settings_that_cannot_work_are_refused_by_name(change, named):
    with pytest.raises(SettingsError, match=named):
        StreamSettings(**change)


def test_every_baseline_is_a_setting():
    StreamSettings(num_knot_frames=0)
    StreamSettings(run_ahead_stride=0)
    StreamSettings(use_anchor=False)
    StreamSettings(num_window_frames=0)
    StreamSettings(num_knot_frames=0, start_from_reference=True)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"num_heads": 5}, "num_heads"),
        ({"layout": "inpaint37"}, "'inpaint37'"),
        ({"in_channels": 16}, "36 input channels, not 16"),
        ({"adapter": AdapterConfig(blocks=(0, 3))}, "feeds block 3"),
        ({"freq_dim": 31}, "freq_dim is 31"),
        ({"num_layers": 0}, "num_layers is 0"),
        ({"image_dim": 0}, "image_dim is 0"),
        ({"timestep_dtype": "float8"}, "'float8'"),
        ({"layout": "ref33", "in_channels": 36}, "33 input channels, not 36"),
        ({"unknown_frames": "black"}, "'black'.* zeros, grey"),
        ({"known_in_x": 1}, "known_in_x is 1"),
        ({"layout": "t2v16", "in_channels": 16, "known_in_x": True}, "t2v16 has no condition channels"),
    ],
)
def test_network_configs_that_cannot_work_are_refused(make_config, change, named):
    with pytest.raises(SettingsError, match=named):
        make_config(**change)


def test_configs_survive_json(make_config):
    crossing = AudioCrossConfig(signal_dim=6, norm_output=False)
    for config in (
        make_config(),
        make_config("t2v16", adapter=None),
        make_config(adapter=crossing, image_dim=12, timestep_dtype="bfloat16"),
    ):
        assert NetworkConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config
    settings = StreamSettings(num_window_frames=11, fusion=0.25, num_sink_frames=2, timesteps=(1000, 500))
    assert StreamSettings.from_dict(json.loads(json.dumps(settings.to_dict()))) == settings


def test_what_older_versions_wrote_is_read(make_config):
    """Fields that came later take their defaults; and a network without use for them is still written without."""
    later = {"num_sink_frames", "sink_decay", "rope_positions", "timesteps", "first_timesteps"}
    old = {name: value for name, value in StreamSettings().to_dict().items() if name not in later}
    assert StreamSettings.from_dict(old) == StreamSettings()
    assert {"image_dim", "timestep_dtype"}.isdisjoint(make_config().to_dict())


def test_unknown_and_missing_fields_are_refused(make_config):
    stored = make_config().to_dict()
    with pytest.raises(CheckpointError, match="colour"):
        NetworkConfig.from_dict({**stored, "colour": 1})
    with pytest.raises(CheckpointError, match="ffn_dim"):
        NetworkConfig.from_dict({name: value for name, value in stored.items() if name != "ffn_dim"})
    with pytest.raises(CheckpointError, match="smell"):
        NetworkConfig.from_dict({**stored, "adapter": {"smell": 1}})
    with pytest.raises(CheckpointError, match="smell"):
        NetworkConfig.from_dict({**stored, "adapter": {"kind": "audio_cross", "smell": 1}})


def test_an_adapter_without_a_name_has_that_of_its_shape_and_is_described_as_before(make_config):
    """Files are older than names, and a model keeps its fingerprint."""
    shapes = {"controls": {}, "units": {"signal_dim": 122}, "packed": {"signal_dim": 10752}}
    for name, shape in shapes.items():
        config = make_config(adapter=AdapterConfig(**shape, blocks=(0,)))
        assert config.adapter.name == name
        assert "name" not in config.to_dict()["adapter"]
        assert NetworkConfig.from_dict(config.to_dict()) == config


def test_an_adapter_that_says_its_name_keeps_it(make_config):
    config = make_config(adapter=AdapterConfig(name="controls", signal_dim=80, blocks=(0,)))
    assert takes_controls(config.adapter)
    assert config.to_dict()["adapter"]["name"] == "controls"
    assert NetworkConfig.from_dict(config.to_dict()) == config
    with pytest.raises(SettingsError, match="name"):
        AdapterConfig(name="drums")
