"""Sessions in workers on a real Ray of this machine: killed, drained, taken over by another gateway, joined, left."""

import os
import signal
import threading
import time
from importlib.util import find_spec

import pytest

if find_spec("ray") is None:  # asked without importing it, which must be told first to stay on loopback
    pytest.skip("RAY IS NOT INSTALLED: sessions in workers are not tested", allow_module_level=True)

from knot_live import controls
from knot_live.cluster.cluster_options import ClusterOptions
from knot_live.cluster.local_ray import import_ray, local_ray
from knot_live.engine import load_model
from knot_live.events import Applied, Cut
from knot_live.journal import Journal, Kept
from knot_live.limits import Limits
from knot_live.messages import Create
from knot_live.protocol import ProtocolError
from knot_live.sources import Audience
from knot_live.studio import Studio

pytestmark = pytest.mark.slow
SECONDS = 150.0  # in which something must have happened: other tests may run beside these
WISH = {"reference": "builtin:ada", "settings": {"steps": 1}}
OPTIONS = ClusterOptions(model="knot-tiny", least=2, most=2, standbys=0, sessions_per_worker=2, checkpoint_every=2,
                         hangs_after=30.0, limits=Limits(max_sessions=8))  # fmt: skip


@pytest.fixture(scope="module")
def ray():
    """A Ray for these tests alone; its sockets need a short path."""
    folder = f"/tmp/knot-{os.getpid()}"
    with local_ray(4, 0, folder):
        yield import_ray()


@pytest.fixture(scope="module")
def table(ray):
    from knot_live.cluster.placing import open_table

    found = open_table(OPTIONS)
    until(lambda: [one["state"] for one in ray.get(found.status.remote())["workers"]] == ["ready", "ready"])
    return found


@pytest.fixture
def studio(table):
    from knot_live.cluster.gateway import ClusterStudio

    made = ClusterStudio(table, OPTIONS.limits)
    yield made
    made.close()


def until(there, seconds=SECONDS):
    end = time.monotonic() + seconds
    while not there():
        assert time.monotonic() < end, "it has not happened"
        time.sleep(0.05)


class Shown:
    """A session as a gateway shows it, whose viewer shows at once what comes."""

    def __init__(self, source):
        self.source, self.chunks, self.events, self.why, self._lock = source, [], [], None, threading.Lock()
        self.digests, self.moves = {}, []
        take = source._log.take_step

        def noted(place, step):
            if isinstance(step, Kept):
                self.digests[step.chunk] = step.digest
            take(place, step)

        source._log.take_step = noted
        source.listen(
            Audience(show=self._show, tell=self.events.append, fail=self._end, ended=self._end, moved=self.moves.append)
        )

    def _show(self, chunk):
        with self._lock:
            self.chunks.append(chunk)
        self.source.acknowledge(chunk.epoch, chunk.end - 1)

    def _end(self, why):
        self.why = why

    def reach(self, chunk):
        until(lambda: self.chunks and self.chunks[-1].chunk >= chunk)
        assert self.why is None

    def is_whole(self):
        """Every frame was given, in order, and once."""
        with self._lock:
            ends = [0] + [chunk.end for chunk in self.chunks]
            return [chunk.first_frame for chunk in self.chunks] == ends[:-1]

    def finish(self):
        self.source.apply(controls.Finish())
        until(lambda: self.why is not None)
        assert self.why[0] == "finished"


def begun(studio, seed=0):
    shown = Shown(studio.make(Create(**WISH, seed=seed)).source())
    shown.source.start()
    return shown


def undisturbed(count, seed):
    """Digests of the first chunks of a session in one process, with weights of its own."""
    studio, steps = Studio(load_model("knot-tiny"), OPTIONS.limits), []
    session = studio.session(Create(**WISH, seed=seed), viewer=False, journal=Journal(steps.append))
    for number, _ in enumerate(session.chunks(), start=1):
        if number == count:
            session.apply(controls.Finish())
    return {step.chunk: step.digest for step in steps if isinstance(step, Kept)}


def worker(ray, table, name):
    return next(one for one in ray.get(table.status.remote())["workers"] if one["name"] == name)


def answered(ray, table):
    """The rows of workers; none while the table is away."""
    try:
        return ray.get(table.status.remote(), timeout=SECONDS)["workers"]
    except ray.exceptions.RayError:
        return []


def name(shown):
    return shown.source._record.session_id


def test_a_session_whose_worker_is_killed_goes_on_as_the_same(ray, table, studio):
    lost, other = begun(studio, seed=3), begun(studio, seed=4)
    assert lost.source.worker != other.source.worker
    lost.reach(3)
    other.reach(1)
    killed = lost.source.worker
    os.kill(worker(ray, table, killed)["pid"], signal.SIGKILL)
    since = len(other.chunks)
    number = lost.source.apply(controls.SetLiveliness(0.5))  # asked of nobody, or of who is there by then
    until(lambda: any(isinstance(event, Cut) for event in lost.events))
    lost.reach(6)
    until(lambda: len(other.chunks) > since + 3)
    assert lost.source.worker != killed
    assert [event.epoch for event in lost.events if isinstance(event, Cut)] == [1]
    assert not any(isinstance(event, Cut) for event in other.events)
    assert lost.is_whole()
    assert other.is_whole()
    assert [event.number for event in lost.events if isinstance(event, Applied)] == [number]
    assert worker(ray, table, lost.source.worker)["differs"] == 0
    assert (len(lost.moves), len(other.moves)) == (1, 0)
    for one in (lost, other):
        one.finish()
    until(lambda: worker(ray, table, killed)["state"] == "ready")  # it was begun again


def test_drained_sessions_go_on_bit_for_bit_and_new_ones_come_elsewhere(ray, table, studio):
    moved = begun(studio, seed=5)
    moved.reach(2)
    before = moved.source.worker
    ray.get(table.drain.remote(before), timeout=SECONDS)
    until(lambda: moved.source.worker != before)
    until(lambda: any(isinstance(event, Cut) for event in moved.events))
    moved.reach(8)  # up to two chunks more came from the worker that it left
    assert moved.is_whole()
    assert [event.epoch for event in moved.events if isinstance(event, Cut)] == [1]
    joined = begun(studio)
    joined.reach(1)
    assert joined.source.worker != before
    joined.finish()
    moved.finish()
    drawn = {chunk: digest for chunk, digest in moved.digests.items() if chunk < 8}
    assert drawn == undisturbed(8, 5)
    until(lambda: before not in [one["name"] for one in ray.get(table.status.remote())["workers"]])
    until(lambda: [one["state"] for one in ray.get(table.status.remote())["workers"]] == ["ready", "ready"])


def test_another_gateway_takes_a_session_over_and_can_lose_its_worker(ray, table, studio):
    first = begun(studio, seed=6)
    first.reach(3)
    (made,) = studio.standing()
    assert made.identity[0] == first.source._record.session_id
    second = Shown(made.source())
    second.source.take_over()
    second.reach(4)
    assert second.chunks[0].first_frame == 0  # all that is kept comes again
    os.kill(worker(ray, table, second.source.worker)["pid"], signal.SIGKILL)
    until(lambda: any(isinstance(event, Cut) for event in second.events))
    second.reach(7)
    assert second.is_whole()
    assert worker(ray, table, second.source.worker)["differs"] == 0
    assert not first.source._thread.is_alive()
    assert first.why is None  # it knows of nothing any more
    second.finish()
    until(lambda: studio.standing() == [])


def test_a_worker_that_hangs_is_killed_and_its_session_goes_on_elsewhere(ray, table, studio):
    hung = begun(studio, seed=7)
    hung.reach(2)
    where, pid = hung.source.worker, worker(ray, table, hung.source.worker)["pid"]
    os.kill(pid, signal.SIGSTOP)
    until(lambda: any(isinstance(event, Cut) for event in hung.events))
    hung.reach(5)
    assert hung.is_whole()
    assert hung.source.worker != where
    hung.finish()
    until(lambda: worker(ray, table, where)["state"] == "ready")
    assert worker(ray, table, where)["pid"] != pid


def test_a_table_that_dies_is_begun_again_and_knows_who_draws_what(ray, table, studio):
    drawn = begun(studio, seed=8)
    drawn.reach(2)
    ray.kill(table, no_restart=False)
    until(
        lambda: (
            [one["sessions"] for one in answered(ray, table) if one["name"] == drawn.source.worker] == [[name(drawn)]]
        )
    )
    until(lambda: [one["state"] for one in answered(ray, table)] == ["ready", "ready"])
    os.kill(worker(ray, table, drawn.source.worker)["pid"], signal.SIGKILL)
    until(lambda: any(isinstance(event, Cut) for event in drawn.events))
    drawn.reach(6)
    assert drawn.is_whole()
    drawn.finish()
    until(lambda: [one["state"] for one in answered(ray, table)] == ["ready", "ready"])


def test_a_server_of_a_cluster_is_ready_while_a_worker_is(ray, table, monkeypatch):
    from knot_live.cluster import gateway

    assert ray.get(table.trouble.remote()) is None
    monkeypatch.setattr(gateway, "_SPEAKS", 0.1)
    gone = gateway.ClusterStudio(table, OPTIONS.limits)
    until(lambda: gone.trouble() is None)
    gone._table = None  # as one that died
    until(lambda: gone.trouble() == "the cluster's table does not answer")
    gone.close()


def test_what_cannot_be_is_refused_with_the_sentence_of_the_worker(studio):
    with pytest.raises(ProtocolError, match="there is no reference"):
        studio.make(Create(reference="builtin:nobody"))
    made = [begun(studio) for _ in range(4)]
    try:
        with pytest.raises(ProtocolError, match="no worker has room"):
            studio.make(Create(**WISH))
    finally:
        for one in made:
            one.finish()
