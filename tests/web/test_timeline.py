"""The editor's timeline is the node's: read by the same rules, refused for the same reasons, eased by the same curves.

In Node.js, where it is installed; test_curves.py asks the browser again.
"""

import base64
import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from knot_core.driving.controls import CONTROLS
from knot_core.driving.expression import EASES, read_expression
from knot_core.errors import DrivingError

PACK = Path(__file__).resolve().parents[2]
MODULE = PACK / "web" / "timeline.js"
ANSWERS = Path(__file__).with_name("timeline_answers.js").read_text(encoding="utf-8")
NODE_JS = shutil.which("node")
FRAMES = list(range(0, 260, 3))
Json = dict[str, Any]
Ask = Callable[[list[Json]], list[Json]]

needs_node = pytest.mark.skipif(NODE_JS is None, reason="NO NODE.JS: the timeline's rules are only tested in a browser")


def ask_node(cases: list[Json]) -> list[Json]:
    source = base64.b64encode(MODULE.read_bytes()).decode()  # a file of this name would be taken for CommonJS
    script = f"""
        const cases = JSON.parse((await import("node:fs")).readFileSync(0, "utf-8"));
        const timeline = await import("data:text/javascript;base64,{source}");
        console.log(JSON.stringify(({ANSWERS})(timeline, cases)));"""
    done = subprocess.run([str(NODE_JS), "--input-type=module", "-e", script], input=json.dumps(cases), text=True,
                          encoding="utf-8", capture_output=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def node_values(text: str, frames: list[int]) -> dict[str, np.ndarray] | None:
    """What the node reads; None where it refuses."""
    try:
        driving = read_expression(text)
    except DrivingError:
        return None
    tracks = [track for track in (driving.pose, driving.mouth) if track is not None]
    return {
        name: column
        for track in tracks
        for name, column in zip(track.names, track.at(np.array(frames)).T, strict=True)
        if name in track.given
    }


def assert_same(texts: list[str], ask: Ask) -> None:
    """And what the editor writes is read as what it had read."""
    answers = ask([{"text": text, "frames": FRAMES} for text in texts])
    for text, answer in zip(texts, answers, strict=True):
        wanted = node_values(text, FRAMES)
        assert (wanted is None) == (answer["refused"] is not None), (text, answer)
        if wanted is None:
            continue
        assert wanted.keys() == answer["values"].keys()
        for name, values in wanted.items():
            np.testing.assert_allclose(answer["values"][name], values, atol=1e-6, err_msg=text)
        assert repr(read_expression(answer["written"])) == repr(read_expression(text))


def eased(ease: str, **more: object) -> str:
    return json.dumps({name: [[0.3, 0.1, ease], [1.7, 0.9, ease], [2.5, 0.0]] for name in CONTROLS} | more)


GRID = [eased(ease, **more) for ease in EASES for more in ({}, {"loop": True}, {"loop": True, "seconds": 3.3},
                                                           {"seconds": 1.1}, {"loop": True, "seconds": 0.1})]
REFUSED = [
    "", " ", "null", "[]", "{", "{}", '"yaw"', '{"yaw": NaN}', '{"seconds": 8}', '{"loop": true}', '{"yaw": []}',
    '{"yaw": [[0, 0]], "yaw": [[0, 1]]}', '{"yaw": [[0, 0]], "y\\u0061w": [[0, 1]]}', '{"jaw": [[0, 0]]}',
    '{"yaw": [[0, 0], [0, 1]]}', '{"yaw": [[1, 0], [0, 1]]}', '{"yaw": [[0, 1.01]]}', '{"blink": [[0, -0.1]]}',
    '{"yaw": [[-1, 0]]}', '{"yaw": [[0, 0, "bounce"]]}', '{"yaw": [[0, 0, "toString"]]}', '{"yaw": [[0, 0, null]]}',
    '{"yaw": [[0]]}', '{"yaw": [[0, 0, "in", 1]]}', '{"yaw": [["0", 0]]}', '{"yaw": [[true, 0]]}',
    '{"yaw": [[1e999, 0]]}', '{"yaw": [[0, 0]], "loop": 1}',
    '{"yaw": [[0, 0]], "loop": true}', '{"yaw": [[0, 0]], "seconds": 0}',
    '{"yaw": [[0, 0]], "seconds": "8"}', '{"yaw": [[0, 0]], "seconds": null}', '{"yaw": [[0, 0]], "seconds": 1e7}',
    '{"yaw": [[0, 0]], "seconds": 0.02}', '{"__proto__": [[0, 0]]}', '{"yaw": {"0": [0, 0]}}',
]  # fmt: skip


@needs_node
def test_every_ease_looped_or_not_has_the_nodes_values() -> None:
    assert_same(GRID, ask_node)


@needs_node
def test_what_the_node_refuses_is_refused() -> None:
    assert all(node_values(text, FRAMES) is None for text in REFUSED)
    assert_same(REFUSED, ask_node)


@needs_node
def test_written_text_is_stable_and_leaves_other_lines_alone() -> None:
    text = '{\n  "seconds": 8,\n  "loop": true,\n  "brow": [[0, 0], [1.5, 0.8, "hold"]],\n  "yaw": [[0.123456, -1]]\n}'
    loose = json.dumps(json.loads(text))
    answers = ask_node([{"text": each, "frames": []} for each in (text, loose)])
    assert [answer["written"] for answer in answers] == [text, text]


seldom = st.sampled_from([False] * 30 + [True])
times = st.integers(0, 400).map(lambda hundredths: hundredths / 100)


@st.composite
def keys(draw: st.DrawFn) -> list[Any]:
    moments = draw(st.lists(times, min_size=0 if draw(seldom) else 1, max_size=5, unique=True))
    ends = [] if draw(st.booleans()) else [draw(st.sampled_from([*EASES, "none" if draw(seldom) else "in"]))]
    low = -1.2 if draw(seldom) else 0
    return [[time, draw(st.floats(low, 1).map(lambda value: round(value, 3) + 0.0)), *ends]
            for time in (moments if draw(seldom) else sorted(moments))]


@st.composite
def timelines(draw: st.DrawFn) -> str:
    controls = draw(st.dictionaries(st.sampled_from(CONTROLS), keys(), min_size=0 if draw(seldom) else 1, max_size=4))
    more = {"seconds": draw(times)} if draw(st.booleans()) else {}
    if draw(st.booleans()):
        more["loop"] = draw(st.booleans())
    return json.dumps(more | controls)


@needs_node
@settings(max_examples=8, deadline=None, phases=[Phase.explicit, Phase.generate])  # shrinking starts Node.js for hours
@given(st.lists(timelines(), min_size=20, max_size=60))
def test_any_timeline_is_read_as_the_node_reads_it(texts: list[str]) -> None:
    assert_same(texts, ask_node)
