"""The editor's timeline is the node's: read by the same rules, refused for the same reasons, eased by the same curves.

In Node.js, where it is installed; test_curves.py asks the browser, too.
"""

import json
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from knot_core.driving.expression import EASES, read_expression
from knot_core.driving.expression_controls import CONTROLS
from knot_core.errors import DrivingError

PACK = Path(__file__).resolve().parents[2]
WEB = PACK / "web"
ANSWERS = Path(__file__).with_name("timeline_answers.js").read_text(encoding="utf-8")
NODE_JS = shutil.which("node")
FRAMES = list(range(0, 260, 3))
Json = dict[str, Any]
Ask = Callable[[list[Json]], list[Json]]

needs_node = pytest.mark.skipif(NODE_JS is None, reason="NO NODE.JS: the timeline's rules are only tested in a browser")


def in_node_js(script: str, given: object) -> Any:
    """What the script makes of `given`; it has `timeline` and `plots`, the modules of web/."""
    with tempfile.TemporaryDirectory() as folder:
        for path in (*WEB.glob("timeline*.js"), WEB / "editor_texts.js"):
            shutil.copy(path, folder)
        Path(folder, "package.json").write_text('{"type": "module"}', encoding="utf-8")
        Path(folder, "main.js").write_text(f"""
            import {{ readFileSync }} from "node:fs";
            import * as timeline from "./timeline.js";
            import * as plots from "./timeline_plot.js";
            const given = JSON.parse(readFileSync(0, "utf-8"));
            console.log(JSON.stringify(({script})(given)));""", encoding="utf-8")  # fmt: skip
        done = subprocess.run(
            [str(NODE_JS), "main.js"],
            cwd=folder,
            input=json.dumps(given),
            text=True,
            encoding="utf-8",
            capture_output=True,
            timeout=60,
            check=False,
        )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def ask_node(cases: list[Json]) -> list[Json]:
    return in_node_js(f"(cases) => ({ANSWERS})(timeline, cases)", cases)


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


GRID = [
    eased(ease, **more)
    for ease in EASES
    for more in ({}, {"loop": True}, {"loop": True, "seconds": 3.3}, {"seconds": 1.1}, {"loop": True, "seconds": 0.1})
]
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
    return [
        [time, draw(st.floats(low, 1).map(lambda value: round(value, 3) + 0.0)), *ends]
        for time in (moments if draw(seldom) else sorted(moments))
    ]


@st.composite
def timelines(draw: st.DrawFn) -> str:
    controls = draw(st.dictionaries(st.sampled_from(CONTROLS), keys(), min_size=0 if draw(seldom) else 1, max_size=4))
    more = {"seconds": draw(times)} if draw(st.booleans()) else {}
    if draw(st.booleans()):
        more["loop"] = draw(st.booleans())
    return json.dumps(more | controls)


@needs_node
@settings(
    max_examples=8, deadline=None, phases=[Phase.explicit, Phase.generate],  # shrinking starts Node.js for hours
    suppress_health_check=[HealthCheck.too_slow],  # by the clock, which others may share
)  # fmt: skip
@given(st.lists(timelines(), min_size=20, max_size=60))
def test_any_timeline_is_read_as_the_node_reads_it(texts: list[str]) -> None:
    assert_same(texts, ask_node)


PLOT = "new plots.Plot({width: 380, height: 180, view: {from: 0, to: 8}, control: 'yaw'})"


@needs_node
def test_a_place_in_the_picture_and_its_time_and_value_are_one() -> None:
    places = [[0, 0], [40, 90], [379, 12]]
    there_and_back = f"""places => places.map(([x, y]) => {{
        const plot = {PLOT};
        return [plot.x(plot.seconds(x)), plot.y(plot.value(y))];
    }})"""
    np.testing.assert_allclose(in_node_js(there_and_back, places), places, atol=1e-9)


@needs_node
def test_the_key_under_the_pointer_is_the_nearest_within_reach() -> None:
    keys = [[2, 0, "in"], [2.1, 0, "in"], [4, 0, "in"]]
    found = in_node_js(f"""given => {{
        const plot = {PLOT};
        return given.places.map(([time, value]) => plots.keyAt(plot, given.keys, plot.x(time) + 2, plot.y(value) - 2));
    }}""", {"keys": keys, "places": [[2, 0], [2.1, 0], [4, 0], [4, 0.2], [5, 0]]})  # fmt: skip
    assert found == [0, 1, 2, None, None]


@needs_node
def test_time_is_marked_sparsely_and_zoomed_within_its_bounds() -> None:
    spans = [[0, 0.4], [0, 1], [0, 8], [2.5, 61], [0, 7200], [0, 1e6]]
    for (start, end), marks in zip(spans, in_node_js("spans => spans.map(span => plots.ticks(...span, 8))", spans),
                                   strict=True):  # fmt: skip
        assert 1 <= len(marks) <= 9
        assert all(start <= mark <= end for mark in marks)
    views = in_node_js("""wheels => {
        let view = {from: 0, to: 8};
        return wheels.map(([around, factor]) => (view = plots.zoomed(view, around, factor, {from: 0, to: 8})));
    }""", [[4, 0.5], [4, 0.5], [1, 0.01], [3, 9], [3, 9]])  # fmt: skip
    assert views[:2] == [{"from": 2, "to": 6}, {"from": 3, "to": 5}]
    assert all(0 <= view["from"] < view["to"] <= 8 for view in views)
    assert views[-1] == {"from": 0, "to": 8}


@needs_node
def test_edits_keep_a_timeline_that_the_node_reads() -> None:
    """Random edits, one upon the other: always in order, in range, and no two keys at one time."""
    rng = np.random.default_rng(5)
    kinds = [(CONTROLS[rng.integers(8)], int(rng.integers(1000)), int(rng.integers(6))) for _ in range(300)]
    edits = [[name, *map(float, rng.uniform(-1, 9, 2)), number, kind] for name, number, kind in kinds]
    texts = in_node_js("""edits => {
        const eases = Object.keys(timeline.EASES);
        let now = {};
        return edits.map(([name, time, value, number, kind]) => {
            const keys = now[name] ?? [];
            const place = number % (keys.length || 1);
            if (kind < 3 || !keys.length) now = timeline.withKey(now, name, timeline.snapped(time, 0.04), value / 4);
            else if (kind === 3) now = timeline.withKeyAt(now, name, place, time, value / 4);
            else if (kind === 4) now = timeline.withEase(now, name, place, eases[number % eases.length]);
            else now = timeline.withoutKey(now, name, place);
            if (number % 9 === 0) now = timeline.withSeconds(now, number % 2 ? time : null);
            if (number % 7 === 0) now = timeline.withLoop(now, number % 2 === 0);
            return timeline.write(now);
        });
    }""", edits)  # fmt: skip
    driven = [node_values(text, [0, 50]) is not None for text in texts]
    refused = [answer["refused"] for answer in ask_node([{"text": text, "frames": []} for text in texts])]
    assert [reason is None for reason in refused] == driven
    assert set(refused) <= {None, "nothing moves yet", "shorter than a frame: set the length"}
    assert sum(driven) > 250
