"""The command line's words for the driving: what they come to, and what is refused."""

import re
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from knot_core.cli.driving_options import directed_driving
from knot_core.cli.entry import main
from knot_core.cli.parser import command_parser
from knot_core.config import AdapterConfig
from knot_core.driving import Driving
from knot_core.driving.speech_options import SpeechOptions, speak
from knot_core.media import Audio

MODEL = SimpleNamespace(config=SimpleNamespace(adapter=AdapterConfig()), adapter=AdapterConfig(), fps=25,
                        timing="own", device=torch.device("cpu"))  # fmt: skip
YAW, BROW = 64, 71


@pytest.fixture
def audio() -> Audio:
    return Audio(samples=0.1 * torch.randn(1, 32_000, generator=torch.Generator().manual_seed(0)), sample_rate=16_000)


def driving(audio: Audio | None, *arguments: str) -> Driving:
    """The driving of `animate` with these arguments, without making the video."""
    options = command_parser().parse_args(["animate", "--out", "out.mp4", *arguments])
    return directed_driving(options, MODEL, audio)


def test_speech_options_are_those_of_the_engine(audio):
    made = driving(
        audio, "--gain", "6", "--smoothing", "0.2", "--silence", "rest", "--silence-level", "-30", "--seed", "4"
    )
    options = SpeechOptions(gain=6, smoothing=0.2, silence="rest", silence_level=-30)
    assert made == speak(audio, options=options, seed=4)
    assert driving(audio) == Driving.from_audio(audio)


def test_an_expression_lies_over_speech_and_idle_motion(audio, tmp_path):
    (tmp_path / "e.json").write_text('{"yaw": [[0, 0.5]]}')
    for beneath in (audio, None):
        made = driving(beneath, "--expression", str(tmp_path / "e.json"))
        plain, signal = (d.pixel_signal(np.arange(40)) for d in (driving(beneath), made))
        assert (signal[:, YAW] == 0.5).all()
        assert torch.equal(signal[:, BROW], plain[:, BROW])
        assert torch.equal(signal[:, :YAW], plain[:, :YAW])


def test_a_preview_is_drawn(audio, tmp_path):
    driving(audio, "--preview", str(tmp_path / "new" / "p.png"))
    assert Image.open(tmp_path / "new" / "p.png").width == 960


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ("--idle --gain 3", "got gain, which change how speech drives the mouth"),
        ("--idle --pose-video a.mp4", "--pose-video sets the motion of the head"),
        ("--idle --face-model a.task", "--face-model is for --pose-video"),
        ("--expression none.json", "none.json cannot be read"),
        ("--pose-video none.mp4", "none.mp4 cannot be read|needs MediaPipe"),
    ],
)
def test_what_cannot_work_is_refused_in_one_sentence(arguments, says, tmp_path, capsys):
    Image.new("RGB", (32, 32)).save(tmp_path / "face.png")
    common = [
        "animate",
        "--reference",
        str(tmp_path / "face.png"),
        "--out",
        str(tmp_path / "o.mp4"),
        "--dtype",
        "float32",
    ]
    assert main([*common, *arguments.split()]) == 1
    said = capsys.readouterr().err
    assert re.search(says, said), said
    assert not (tmp_path / "o.mp4").exists()
