"""What users and strangers write, in any form: a value that works, or one clear sentence."""

import json
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from knot_core.config import StreamSettings
from knot_core.driving import Driving
from knot_core.driving.driving_plot import PreviewOptions, draw_driving
from knot_core.driving.expression import EASES, read_expression
from knot_core.driving.expression_controls import CONTROLS, RANGES
from knot_core.driving.lengths import format_clock, parse_clock
from knot_core.driving.prompts import describe, parse_prompts
from knot_core.errors import KnotError
from knot_core.flow import noise_levels
from knot_core.settings_text import changed_settings
from knot_core.wan.preset import with_settings

from .fuzzing import check_sentence, clear_errors_only, fuzzed, json_values

NAMES = (*CONTROLS, "seconds", "loop", "fps", "keyframes", "time", *EASES)
SETTINGS = tuple(vars(StreamSettings()))

numbers = st.floats(-2, 70) | st.integers(-2, 70) | st.floats() | st.integers()
a_key = st.tuples(numbers, numbers) | st.tuples(numbers, numbers, st.sampled_from([*EASES, "bounce"]))
expressions = st.fixed_dictionaries(
    {}, optional={name: st.lists(a_key, max_size=4) for name in CONTROLS} | {"seconds": numbers, "loop": st.booleans()}
)
control_lists = st.fixed_dictionaries(
    {}, optional={name: st.lists(numbers, max_size=4) for name in CONTROLS} | {"fps": numbers}
)
keyframe = st.fixed_dictionaries({}, optional=dict.fromkeys(("time", *CONTROLS), numbers))
keyframes = st.fixed_dictionaries({"keyframes": st.lists(keyframe, max_size=4)}, optional={"seconds": numbers})


@fuzzed(90)
@given(expressions | json_values(*NAMES))
def test_an_expression_timeline(found):
    for source in (json.dumps(found), found if isinstance(found, dict) else "[]"):
        with clear_errors_only():
            check_driving(read_expression(source))


@fuzzed(35)
@given(st.text(st.sampled_from('{}[]",:0123456789.eE+-truefalsnyw \n\\u\x00'), max_size=60) | st.text(max_size=60))
def test_a_text_as_expression_timeline(text):
    with clear_errors_only():
        check_driving(read_expression(text))


@fuzzed(90)
@given(control_lists | keyframes | json_values(*NAMES))
def test_controls(tmp_path_factory, found):
    path = tmp_path_factory.getbasetemp() / "controls.json"
    path.write_text(json.dumps(found), encoding="utf-8")
    for controls in (path, found):
        with clear_errors_only():
            check_driving(Driving.from_controls(controls))


@fuzzed(25)
@given(st.binary(max_size=80))
def test_bytes_as_controls(tmp_path_factory, content):
    path = tmp_path_factory.getbasetemp() / "controls.json"
    path.write_bytes(content)
    for read in (Driving.from_controls, read_expression):
        with clear_errors_only():
            check_driving(read(path))


def check_driving(driving: Driving) -> None:
    """It can be played: at its beginning, at its end, and past that."""
    last = driving.num_pixel_frames or 0
    signal = driving.pixel_signal(np.array([0, 1, max(0, last - 1), last, last + 10**7]))
    assert signal.isfinite().all()
    for place, name in enumerate(CONTROLS):
        low, high = RANGES[name]
        assert signal[:, 64 + place].min() >= low, name
        assert signal[:, 64 + place].max() <= high, name


DIGITS = "\u0966"  # a zero of another script, which Python's int() reads
pieces = st.sampled_from(
    ["0:00", "0:12", "1:02:03.5", "12", "9:99", "/", "\n", "//", " ", "calm", "and/or", "\x00", f"{DIGITS}:{DIGITS}"]
)
prompts = st.tuples(st.sampled_from([" ", ""]), st.lists(pieces, max_size=12)).map(lambda found: str.join(*found))


@fuzzed(120)
@given(prompts | st.text(max_size=60), st.integers(-1, 1001) | st.none() | st.floats(), st.integers(1, 16))
def test_a_prompt_timeline(text, blend, chunk_frames):
    with clear_errors_only():
        timeline = parse_prompts(text, blend)
        plan = timeline.plan(chunk_frames, 25)
        assert sum(plan.weights(plan.starts[-1] + 3)) == pytest.approx(1)
        assert len(describe(timeline, chunk_frames, 25).splitlines()) >= len(timeline.prompts)


@fuzzed(60)
@given(st.lists(st.tuples(st.integers(1, 4000), st.from_regex(r"[a-z]{1,6}( [a-z/]{1,6}){0,3}", fullmatch=True)),
                min_size=1, max_size=6, unique_by=lambda found: found[0]).map(sorted))  # fmt: skip
def test_a_prompt_timeline_says_what_was_written(found):
    times, words = [0, *(time for time, _ in found[1:])], [" ".join(prompt.split()) for _, prompt in found]
    for between in (" / ", "\n"):
        text = between.join(f"{format_clock(time)} {prompt}" for time, prompt in zip(times, words, strict=True))
        timeline = parse_prompts(text)
        assert timeline.times == tuple(times)
        assert timeline.prompts == tuple(words)


@fuzzed(60)
@given(st.text(st.sampled_from("0123456789:. -٣x"), max_size=14))
def test_a_time_of_day(text):
    with clear_errors_only():
        assert 0 <= parse_clock(text) < 1e13


VALUES = ("on", "off", "", "1000, 757", "1e999", "nan", "-1", "0", "3", "0.5", "window", "9" * 5000, DIGITS)
lines = st.tuples(
    st.sampled_from([*SETTINGS, "settings", "self", "", "given"]),
    st.sampled_from(["=", " = ", ""]),
    st.sampled_from(VALUES),
)
changes = st.lists(lines.map("".join), max_size=4).map("\n".join) | st.text(max_size=40)


@fuzzed(150)
@given(changes)
def test_changes_of_settings(text):
    with clear_errors_only():
        settings = with_settings(StreamSettings(), **changed_settings(text))
        assert 1 <= len(noise_levels(settings)) <= 1000
        written = "\n".join(f"{name} = {', '.join(map(str, value)) if isinstance(value, tuple) else value}"
                            for name, value in vars(settings).items() if name not in ("steps", "shift"))  # fmt: skip
        again = with_settings(settings, **changed_settings(written))
        assert again == settings, "what is told is read back"


@fuzzed(90)
@given(st.dictionaries(st.sampled_from(SETTINGS), json_values("window", "absolute"), max_size=3))
def test_stored_settings(found):
    with clear_errors_only():
        StreamSettings.from_dict(found)


@fuzzed(25)
@given(st.floats(), st.floats() | st.floats(0, 100), st.integers(-1, 5000), st.integers(-1, 1001), st.booleans())
def test_a_preview_of_any_stretch(seconds, start, width, chunk_frames, endless):
    driving = Driving.idle(0) if endless else Driving.from_controls({"yaw": [0.5] * 9})
    with clear_errors_only():
        options = PreviewOptions(seconds=seconds, start=start, width=width, chunk_frames=chunk_frames)
        assert draw_driving(driving, options).width == width


HUGE = 200_000


@pytest.mark.parametrize(
    "text",
    [
        "{" + ", ".join(f'"a{number}": 0' for number in range(HUGE)) + "}",
        '{"yaw": [' + ", ".join(f"[{number}, 0]" for number in range(HUGE, 0, -1)) + "]}",
        '{"yaw": "' + "y" * HUGE + '"}',
        "[" * HUGE,
        '{"' + "y" * HUGE + '": 0}',
        '{"keyframes": [' + ", ".join(f'{{"time": {number}}}' for number in range(HUGE, 0, -1)) + "]}",
        '{"yaw": [' + "[" * 900 + "]" * 900 + "]}",
    ],
    ids=["names", "keys", "word", "brackets", "name", "times", "nested"],
)
@pytest.mark.parametrize("read", [read_expression, lambda text: Driving.from_controls(json.loads(text))],
                         ids=["expression", "controls"])  # fmt: skip
def test_huge_json_is_refused_at_once_and_briefly(read, text):
    if text[0] == "[" and read is not read_expression:
        pytest.skip("no JSON at all")
    since = time.process_time()
    with pytest.raises(KnotError) as refused:
        read(text)
    check_sentence(str(refused.value))
    assert time.process_time() - since < 10


@pytest.mark.parametrize(
    "text", ["0:00 calm / " * HUGE, "0" * HUGE, ("0:" * HUGE) + "0 x", "x" * HUGE, "0:00 " + "x " * HUGE]
)
def test_huge_prompts_are_read_at_once(text):
    since = time.process_time()
    with clear_errors_only():
        parse_prompts(text)
    assert time.process_time() - since < 10


@pytest.mark.parametrize(
    "text", ["steps = " + "9" * HUGE, "x" * HUGE, "steps = 3\n" * HUGE, "timesteps = " + "1," * HUGE]
)
def test_huge_changes_are_refused_at_once_and_briefly(text):
    since = time.process_time()
    with clear_errors_only():
        with_settings(StreamSettings(), **changed_settings(text))
    assert time.process_time() - since < 10
