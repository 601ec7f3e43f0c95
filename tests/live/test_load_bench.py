"""The bench's light clients and its arithmetic; what it measures of a real server is run by hand."""

import argparse
import asyncio
import sys
import time

import pytest

from knot_live import commands
from knot_live.bench import faults, load, server_command
from knot_live.bench.processes import Server, busiest
from knot_live.bench.viewer import Viewer, all_see, watching
from knot_live.client import LiveError
from knot_live.controls import Cancel

from .serving import FPS, PlainSession, served
from .test_client import run

pytestmark = pytest.mark.alone


class Slow(PlainSession):
    """It stands for 1.2 s behind its fourth chunk, longer than what lies ready lasts."""

    def chunks(self):
        for chunk in super().chunks():
            if chunk.chunk == 4:
                time.sleep(1.2)
            yield chunk


def test_a_viewer_plays_at_the_streams_pace_and_sees_every_frame():
    async def live():
        async with served() as at:
            viewer = Viewer(at.url)
            async with watching([viewer]):
                await all_see([viewer])
                await asyncio.sleep(2.0)
                ahead = viewer.made / FPS
                return viewer, ahead, viewer.ratio, at.hub

    viewer, ahead, ratio, hub = run(live())
    assert ratio > 0.9
    assert 2.0 <= ahead < 6.0, "it acknowledges what its clock shows, not what comes"
    assert viewer.seen.missing == 0
    assert not viewer.seen.ended
    assert not hub.sessions, "leaving finishes its session"


def test_a_greedy_viewer_is_sent_more_than_it_could_show():
    async def live():
        async with served() as at:
            viewer = Viewer(at.url, greedy=True)
            async with watching([viewer]):
                await all_see([viewer])
                await asyncio.sleep(2.0)
                return viewer.made

    assert run(live()) > 4 * FPS


def test_a_stall_lowers_the_ratio_and_what_is_forgotten_does_not_count():
    async def live():
        async with served(make=Slow) as at:
            viewer = Viewer(at.url)
            async with watching([viewer]):
                await all_see([viewer])
                while viewer.made < 5 * 12:
                    await asyncio.sleep(0.05)
                stalled, longest = viewer.ratio, max(viewer.seen.stalls)
                viewer.forget()
                await asyncio.sleep(0.3)
                return stalled, longest, viewer.ratio, viewer.seen.drawn

    stalled, longest, after, drawn = run(live())
    assert stalled < 0.97
    assert 0.1 < longest <= 1.5
    assert after > stalled
    assert len(drawn) < 5


def test_a_lost_connection_is_taken_up_where_it_was():
    async def live():
        async with served() as at:
            viewer = Viewer(at.url)
            async with watching([viewer]):
                await all_see([viewer])
                for number in range(3):
                    await asyncio.sleep(0.3)
                    await viewer.lose()
                    while len(viewer.seen.outages) <= number:
                        await asyncio.sleep(0.02)
                return viewer, len(at.sessions)

    viewer, num_sessions = run(live())
    assert num_sessions == 1
    assert viewer.seen.missing == 0
    assert not viewer.seen.ended
    assert all(0 < outage < 10 for outage in viewer.seen.outages)


def test_what_is_refused_and_what_is_lost_are_told_apart():
    async def live():
        async with served(max_sessions=1, resume_seconds=0.2) as at:
            one, two = Viewer(at.url), Viewer(at.url)
            async with watching([one]):
                await all_see([one])
                await two.run()
                two.forget()  # there is nothing else to tell of it
                next(iter(at.hub.sessions.values())).end("time", "a session lasts no longer")
                while not one.seen.ended:
                    await asyncio.sleep(0.02)
                return one.seen, two.seen

    one, two = run(live())
    assert (one.refused, two.ended) == ("", "")
    assert one.ended == "a session lasts no longer"
    assert two.refused.startswith("server_full: ")


@pytest.mark.parametrize("name", faults._MISCHIEF)
def test_mischief_leaves_nothing_and_the_others_play(name):
    async def live():
        async with served(max_sessions=2, resume_seconds=0.2) as at:
            viewer = Viewer(at.url)
            async with watching([viewer]):
                await all_see([viewer])
                await faults._MISCHIEF[name](at.url)
                while at.hub.num_sessions > 1:
                    await asyncio.sleep(0.05)
                return viewer.ratio, faults._kept([viewer])

    ratio, kept = run(live())
    assert ratio > 0.9
    assert (kept["lost"], kept["missing_frames"]) == (0, 0)


def test_a_stream_that_goes_on_elsewhere_is_told_by_its_epoch():
    async def live():
        async with served() as at:
            viewer = Viewer(at.url)
            async with watching([viewer]):
                await all_see([viewer])
                loop, since = asyncio.get_running_loop(), time.monotonic()
                loop.call_later(0.5, at.sessions[0].apply, Cancel(int(viewer.shown)))
                return await faults._gone_on([viewer], [0], since)

    (seconds,) = run(live())
    assert 0.4 < seconds < 5


def test_the_goal_is_what_the_frames_a_second_allow():
    found = {
        "fastest": [{"frames_a_second": 40.0}, {"frames_a_second": 84.0}],
        "paced": [{"sessions": 1, "asked": 1, "smooth": 1}, {"sessions": 2, "asked": 2, "smooth": 2},
                  {"sessions": 3, "asked": 4, "smooth": 3}],
    }  # fmt: skip
    assert load._summary(found) == {"aggregate_fps": 84.0, "goal": 3, "reached": 2}
    assert load.spread([]) == {"count": 0, "p50": None, "p95": None, "most": None}
    assert load.spread([1.0, 3.0]) == {"count": 2, "p50": 2.0, "p95": 2.9, "most": 3.0}
    assert faults._last_over_first([100, 100, 100, 110, 120, 130, 150, 150, 150]) == 1.5
    assert faults._last_over_first([100]) is None


@pytest.mark.parametrize(
    ("line", "said"),
    [(["--kill-workers", "3"], "--kill-workers needs --cluster"), (["--overhead"], "--overhead needs --cluster"),
     (["--drain", "1"], "--drain needs --cluster"),
     (["--load", "--sessions", "1,x"], "wanted counts such as"), (["--load", "--sessions", "0"], "wanted counts")],
    ids=["kill", "overhead", "drain", "text", "none"],
)  # fmt: skip
def test_what_cannot_be_measured_is_one_sentence(capsys, line, said):
    assert commands.main(["bench", *line]) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert said in error


def test_only_what_is_asked_for_is_measured():
    parser = argparse.ArgumentParser()
    server_command.add_options(parser)
    assert server_command.asked(parser.parse_args([])) == []
    assert server_command.asked(parser.parse_args(["--misbehave", "--chaos", "5"])) == ["misbehave", "chaos"]


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the bench reads /proc")
def test_a_server_is_killed_begun_again_and_leaves_nothing():
    server = Server(load.serving(1, None))
    with server:
        url, before = server.url, server.processes()
        assert before
        assert server.memory() > 50
        assert sum(server.seconds_used().values()) > 0.5
        with pytest.raises(LiveError, match="no worker"):
            busiest(server, 0.1)
        server.kill_gateway()
        assert server.url == url
        assert server.processes() != before
    assert server.left_over() == []
