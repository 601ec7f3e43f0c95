"""Controls are values: each as JSON and back, and none that could not be."""

import json

import numpy as np
import pytest

from knot_live import controls
from knot_live.controls import CONTROLS, ControlError, from_json

SOUND = np.linspace(-1, 1, 7, dtype=np.float32)
EXAMPLES = (
    controls.SetControls({"yaw": 0.3, "blink": None}),
    controls.SetPose({"yaw": -0.1}),
    controls.Gesture("nod", 0.5),
    controls.Look(0.2, -1),
    controls.SetLiveliness(0.4),
    controls.Speech((SOUND * 3000).astype(np.int16), 16_000, "mirror"),
    controls.CommitSpeech(),
    controls.ClearSpeech(),
    controls.CancelReply(),
    controls.Say("Good morning.", "en"),
    controls.Prompt("a sunny day", recache=True),
    controls.Reference("builtin:ada", cut=True),
    controls.Degrade(2),
    controls.ChunkLength(1),
    controls.Settings({"steps": 2}),
    controls.Cancel(17),
    controls.Pause(),
    controls.GoOn(),
    controls.Finish(),
    controls.StartRecording(),
    controls.StopRecording(),
)


def test_every_control_has_an_example():
    assert {type(control) for control in EXAMPLES} == set(CONTROLS.values())


@pytest.mark.parametrize("control", EXAMPLES, ids=lambda control: control.kind)
def test_a_control_comes_back_from_its_json(control):
    back = from_json(json.loads(json.dumps(control.to_json())))
    assert type(back) is type(control)
    assert back.to_json() == control.to_json()


@pytest.mark.parametrize("samples", [SOUND, np.stack([SOUND, -SOUND]), np.arange(5, dtype=np.int16)])
def test_sound_comes_back_bit_for_bit_and_in_its_shape(samples):
    back = from_json(json.loads(json.dumps(controls.Speech(samples, 24_000).to_json())))
    assert (back.samples.dtype, back.samples.shape) == (samples.dtype, samples.shape)
    assert np.array_equal(back.samples, samples)


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"type": "fly"},
        {"type": "look", "x": 0.1},
        {"type": "look", "x": 0.1, "y": float("nan")},
        {"type": "gesture", "name": "nod", "strength": True},
        {"type": "set_controls", "values": 3},
        {"type": "set_pose", "values": {"yaw": "left"}},
        {"type": "speech", "rate": 16_000, "mode": "shout", "dtype": "int16", "channels": 0, "audio": "AAA="},
        {"type": "speech", "rate": 16_000, "mode": "reply", "dtype": "int16", "channels": 0, "audio": "!"},
        {"type": "speech", "rate": 16_000, "mode": "reply", "dtype": "int16", "channels": 2, "audio": "AAA="},
        {"type": "pause", "for": 3},
    ],
)
def test_what_is_no_control_is_refused_with_a_sentence(values):
    with pytest.raises(ControlError, match=r"control|number|mode"):
        from_json(values)
