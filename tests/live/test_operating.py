"""What whoever runs a server sees of it: whether it lives, whether it takes sessions, its figures and its logs."""

import asyncio
import io
import json
import logging
import re
import time
from pathlib import Path

import aiohttp
import pytest

from knot_live.client import connect
from knot_live.health import Health
from knot_live.json_logs import SESSION, JsonFormatter, SessionFilter
from knot_live.observing import SessionFigures
from knot_live.server import Services

from .serving import FRAMES, PlainSession, served, wire
from .test_client import SECRET, run

BOARD = Path(__file__).resolve().parents[2] / "deploy" / "grafana" / "knot-live.json"


async def get(url, path, **headers):
    async with aiohttp.ClientSession() as http, http.get(url + path, headers=headers) as answer:
        return answer.status, await answer.text()


def services(**options):
    return Services(about=dict, add_reference=len, picture_of=lambda _: None, health=Health(**options))


@pytest.fixture
def metrics():
    pytest.importorskip("prometheus_client", reason="NOT TESTED, the metrics: pip install prometheus-client")
    from knot_live import server_metrics

    return server_metrics


def values(text):
    """The value of each line, by its name with its labels."""
    lines = [line.rpartition(" ") for line in text.splitlines() if not line.startswith("#")]
    return {name: float(value) for name, _, value in lines}


async def drive(url, chunks, **fields):
    """A session that is seen for so many chunks, moved once and finished."""
    async with connect(url, **fields) as session:
        await session.interact(controls={"yaw": 0.25})
        async for message in session:
            if isinstance(message, dict) and message["type"] == "video.chunk_metadata":
                await session.acknowledge(message["epoch"], message["first_frame"] + message["frames"] - 1)
                if message["chunk"] == chunks:
                    await session.send("session.finish")


def test_a_server_lives_and_is_ready_until_it_is_full_or_in_trouble():
    async def live():
        trouble = []
        told = services(trouble=lambda: trouble[0] if trouble else None)
        async with served(services=told, max_sessions=1) as at:
            found = [await get(at.url, "/healthz"), await get(at.url, "/readyz")]
            async with wire(at.url, "session.create") as client:
                await client.until("session.created")
                found += [await get(at.url, "/healthz"), await get(at.url, "/readyz")]
                await client.say("session.finish")
                await client.end()
            trouble.append("no worker is there")
            return [*found, await get(at.url, "/healthz"), await get(at.url, "/readyz")]

    found = run(live())
    assert [status for status, _ in found] == [200, 200, 200, 503, 200, 503]
    reasons = [json.loads(text).get("reason") for _, text in found]
    assert reasons == [None, None, None, "1 of 1 sessions are running", None, "no worker is there"]


def test_figures_count_what_sessions_did(metrics):
    async def live():
        observed = metrics.Metrics()
        async with served(services=services(metrics=observed), observer=observed, max_sessions=1) as at:
            observed.watch(at.hub)
            before = values((await get(at.url, "/metrics"))[1])
            async with wire(at.url, "session.create") as client, wire(at.url, "session.create") as refused:
                await client.chunks(2)
                await refused.until("error")
                during = values((await get(at.url, "/metrics"))[1])
                await client.say("session.finish")
                await client.end()
            await drive(at.url, 3)
            return before, during, values((await get(at.url, "/metrics"))[1])

    before, during, after = run(live())
    assert before["knot_live_sessions_begun_total"] == 0
    assert before['knot_live_play_ratio{of="worst"}'] == 1
    assert during['knot_live_sessions{state="driven"}'] == during["knot_live_sessions_max"] == 1
    assert during['knot_live_clients{role="driver"}'] == during['knot_live_worker_sessions{worker="local"}'] == 1
    assert during['knot_live_sessions_refused_total{code="server_full"}'] == 1
    assert during["knot_live_slack_seconds"] >= 0
    assert after['knot_live_sessions{state="driven"}'] == 0
    assert after["knot_live_sessions_begun_total"] == after['knot_live_sessions_ended_total{reason="finished"}'] == 2
    assert after["knot_live_answer_seconds_count"] >= 1
    assert 0 < after["knot_live_answer_seconds_sum"] < 60
    chunks = after['knot_live_chunk_seconds_count{stage="chunk",worker="local"}']
    assert chunks >= 5
    assert after['knot_live_chunk_seconds_sum{stage="chunk",worker="local"}'] == pytest.approx(0.01 * chunks)


def test_with_a_token_figures_are_shown_for_it_alone(metrics):
    async def live():
        observed = metrics.Metrics()
        async with served(token=SECRET, services=services(metrics=observed, token=SECRET)) as at:
            none = await get(at.url, "/metrics")
            wrong = await get(at.url, "/metrics", Authorization="Bearer another-token-than-that")
            right = await get(at.url, "/metrics", Authorization=f"Bearer {SECRET}")
            foreign = await get(at.url, "/metrics", Authorization=f"Bearer {SECRET}", Origin="https://evil.example")
            return none[0], wrong[0], right[0], foreign[0]

    assert run(live()) == (401, 401, 200, 403)


def test_without_the_library_the_address_says_what_is_missing(monkeypatch):
    from knot_live import server_metrics

    monkeypatch.setattr(server_metrics, "prometheus_client", None)

    async def live():
        async with served() as at:
            return await get(at.url, "/metrics")

    status, text = run(live())
    assert status == 501
    assert "pip install" in text


def test_workers_are_told_apart_and_names_cannot_grow_without_end(metrics):
    observed = metrics.Metrics()

    async def live():
        async with served(observer=observed, max_sessions=3) as at:
            observed.watch(at.hub)
            for number in range(500):
                observed.refused(f"code {number}")
            observed.moved(0.25)
            async with wire(at.url, "session.create") as one, wire(at.url, "session.create") as two:
                await one.chunks(1)
                await two.chunks(1)
                first, second = at.hub.sessions.values()
                first.source.worker, first.source.checkpointed = "one", time.monotonic() - 1.5
                second.source.worker = "two"
                return values(observed.text().decode())

    found = run(live())
    assert found['knot_live_worker_sessions{worker="one"}'] == found['knot_live_worker_sessions{worker="two"}'] == 1
    assert 0 <= found['knot_live_worker_play_ratio{worker="two"}'] <= 1
    assert 1.5 <= found['knot_live_checkpoint_age_seconds{worker="one"}'] < 20
    assert 'knot_live_checkpoint_age_seconds{worker="two"}' not in found
    assert found["knot_live_failover_seconds_sum"] == 0.25
    assert sum(name.startswith("knot_live_sessions_refused_total") for name in found) < 100


def test_each_metric_of_the_board_exists(metrics):
    board = json.loads(BOARD.read_text(encoding="utf-8"))
    asked = {
        (name, label)
        for panel in board["panels"]
        for target in panel["targets"]
        for name, labels in re.findall(r"(knot_live_\w+)\{([^}]*)\}", target["expr"])
        for label in {None, *re.findall(r"(\w+)=", labels)} - {"job"}
    }
    asked |= {
        (name, label)
        for panel in board["panels"]
        for target in panel["targets"]
        for grouped, name in re.findall(r"by \(([^)]*)\) \((?:rate\()?(knot_live_\w+)", target["expr"])
        for label in grouped.split(", ")
    }
    asked |= {(name, None) for name in re.findall(r"knot_live_\w+", json.dumps(board["templating"]))}
    observed = metrics.Metrics()

    async def live():
        async with served(observer=observed, max_sessions=2) as at:
            observed.watch(at.hub)
            observed.refused("full")
            await drive(at.url, 2)
            async with wire(at.url, "session.create") as client:
                await client.chunks(1)
                for session in at.hub.sessions.values():
                    session.source.checkpointed = time.monotonic()
                return observed.text().decode()

    there = set()
    for name in values(run(live())):
        bare, _, labels = name.partition("{")
        there |= {(bare, None), *((bare, label) for label in re.findall(r"(\w+)=", labels))}
    assert len(asked) > 20
    assert asked - there == set()
    ids = [panel["id"] for panel in board["panels"]]
    assert len(set(ids)) == len(ids) > 8


def test_the_play_ratio_falls_by_stalls_and_not_by_pauses():
    figures = SessionFigures(25)
    assert (figures.ratio(0.0), figures.unplayed(0.0)) == (1.0, 0.0)

    def play(first, since):
        """A second of pictures, all acknowledged on the dot."""
        figures.sent(first, first + 25, since)
        for frame in range(first, first + 25):
            figures.acknowledged(frame, since + (frame - first) / 25)

    play(0, 10.0)
    assert figures.unplayed(10.96) == pytest.approx(0.0)
    assert figures.ratio(11.0) == 1.0
    play(25, 11.5)  # half a second late
    late = figures.ratio(12.5)
    assert late == pytest.approx(2.0 / 2.5, abs=0.03)
    figures.stand(12.5)
    figures.stand(100.0)
    play(50, 100.0)
    assert figures.ratio(101.0) > late
    figures.sent(75, 100, 101.0)
    assert figures.unplayed(101.0) == pytest.approx(1.0, abs=0.05)
    figures.cut(80, 101.0)
    assert figures.unplayed(101.0) == pytest.approx(0.2, abs=0.05)
    figures.asked(7, 100.0)
    figures.asked(8, 100.0)
    figures.forget(8)
    assert figures.answers((6, 7, 8), 100.25) == [0.25]
    assert figures.answers((7,), 100.5) == []


@pytest.fixture
def lines():
    """What is logged as JSON, by and by."""
    stream, handler = io.StringIO(), None
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonFormatter())
    handler.addFilter(SessionFilter())
    root, before = logging.getLogger(), logging.getLogger().level
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    yield lambda: [json.loads(line) for line in stream.getvalue().splitlines()]
    root.removeHandler(handler)
    root.setLevel(before)


def test_log_lines_name_the_session_and_hold_no_secret(lines):
    made = []

    def broken():
        made.append(PlainSession(fails=1 if len(made) == 1 else None))
        return made[-1]

    async def live():
        async with served(token=SECRET, make=broken, max_sessions=4, max_waiting_messages=50 * FRAMES) as at:
            created = []
            async with wire(at.url, "session.create", token=SECRET) as one:
                created.append(await one.until("session.created"))
                async with wire(at.url, "session.create", token=SECRET) as two:
                    created.append(await two.until("session.created"))
                    await two.end()
                await one.say("session.finish")
                await one.end()
            async with wire(at.url, "session.create", token="wrong" * 5) as three:
                await three.end()
            return created

    one, two = run(live())
    said = lines()
    assert {line["session"] for line in said if "session" in line} == {one["session_id"], two["session_id"]}
    ends = {line["session"]: line["reason"] for line in said if line["message"] == "the session has ended"}
    assert ends == {one["session_id"]: "finished", two["session_id"]: "error"}
    drawn = next(line for line in said if "exception" in line)  # from the thread that draws
    assert drawn["session"] == two["session_id"]
    assert "the device is gone" in drawn["exception"]
    assert all({"time", "level", "logger", "message"} <= line.keys() for line in said)
    text = json.dumps(said)
    for secret in (
        SECRET,
        "wrong" * 5,
        *(each[name] for each in (one, two) for name in ("resume_token", "view_token")),
    ):
        assert secret not in text


def test_sessions_do_not_name_each_other_in_the_logs(lines):
    async def say(name):
        SESSION.set(name)
        for _ in range(3):
            logging.getLogger("knot_live.test").warning("I am %s", name)
            await asyncio.sleep(0)

    async def both():
        await asyncio.gather(say("one"), say("two"))

    asyncio.run(both())
    assert len(lines()) == 6
    assert all(line["message"] == f"I am {line['session']}" for line in lines())
