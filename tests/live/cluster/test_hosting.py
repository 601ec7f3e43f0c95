"""A session as a worker hosts it, without Ray: what it gives is enough to go on elsewhere, also under other weights."""

import pickle
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from importlib.util import find_spec

import pytest
import torch

from knot_live import controls
from knot_live.cluster import hosting
from knot_live.cluster.failover import SessionLog
from knot_live.cluster.hosting import Hosted
from knot_live.engine import load_model
from knot_live.events import Ended, StateChanged
from knot_live.journal import Journal, Kept
from knot_live.limits import Limits
from knot_live.media_encoder import ChunkEncoder
from knot_live.messages import Create
from knot_live.protocol import ProtocolError
from knot_live.replaying import Resumed, Standing
from knot_live.scheduling import Costs, Measured
from knot_live.studio import Studio
from knot_live.ticker import Ticker

WISH = Create(reference="builtin:ada", seed=2, settings={"steps": 1})


@pytest.fixture(scope="module")
def studio(model):
    made = Studio(model, Limits())
    made.ticker = Ticker(Costs((Measured(3, 1, 0.01, 0.1),), fps=25))
    yield made
    made.close()


class Gateway:
    """What a gateway does with what a hosted session gives."""

    def __init__(self, hosted, log=None, *, fresh=False):
        self.hosted, self.log, self._there = hosted, log or SessionLog(WISH.reference), threading.Event()
        self.chunks, self.events, self.kept, self.last, self.checkpoints = [], [], [], None, []
        self.outlet = hosted.attach(self._there.set, fresh=fresh)

    def until(self, there, seconds=120.0):
        end = time.monotonic() + seconds
        while not there(self):
            assert time.monotonic() < end, "it has not happened"
            self._there.wait(0.1)
            self._there.clear()
            for kind, value in self.outlet.take() or ():
                self.take(kind, value)
        return self

    def take(self, kind, value):
        log = self.log
        if kind == hosting.CHUNK and log.take_chunk(value):
            self.chunks.append(value)
            self.hosted.session.acknowledge(value.epoch, value.end - 1)
        elif kind == hosting.EVENT and log.take_event(value):
            self.events.append(value)
        elif kind == hosting.STEP:
            log.take_step(*value)
            self.kept += [value[1]] * isinstance(value[1], Kept)
        elif kind == hosting.CHECKPOINT:
            log.take_checkpoint(value)
            self.checkpoints.append(value)
        elif kind == hosting.BEGUN:
            log.go_on(*value)
        elif kind in (hosting.ENDED, hosting.LEFT):
            self.last = kind


def hosted_by(studio, packing, lost=None):
    def begin(hosted, changed):
        options = {"on_event": hosted.tell, "before_chunk": hosted.before_chunk, "changed": changed}
        if lost is None:
            return studio.session(WISH, journal=Journal(hosted.write), **options)
        tensors = {name: part.tensor() for name, part in lost.parts.items()}
        at = hosting_engine().stream_of_parts(lost.checkpoint.header, tensors, studio.model, "it")
        standing = Standing(at=at, notes=lost.checkpoint.notes, steps=lost.steps, made=lost.made, epoch=lost.epoch)
        return Resumed(studio.model, standing, write=hosted.write, **options, **studio.options())

    return Hosted(begin, ChunkEncoder(128, 128, 25), studio.ticker, packing, 2, lost)


def hosting_engine():
    from knot_live import engine

    return engine


@pytest.fixture
def packing():
    with ThreadPoolExecutor(1) as pool:
        yield pool


@pytest.mark.slow
def test_a_session_that_leaves_goes_on_with_nothing_to_do_again(studio, packing):
    first = Gateway(hosted_by(studio, packing))
    first.until(lambda at: len(at.kept) >= 3)
    same = len(first.kept)
    first.hosted.apply(first.log.ask(controls.SetControls({"yaw": 0.4})), controls.SetControls({"yaw": 0.4}))
    first.hosted.leave()
    first.until(lambda at: at.last is not None)
    assert first.last == hosting.LEFT
    assert not any(isinstance(event, Ended) for event in first.events)
    assert [event for event in first.events if isinstance(event, StateChanged)] == [StateChanged("running")]
    assert [one.whole for one in first.checkpoints] == [True] + [False] * (len(first.checkpoints) - 1)
    lost = pickle.loads(pickle.dumps(first.log.lost()))
    assert lost.steps == ()
    assert lost.left == ()
    assert lost.made == first.chunks[-1].end
    second = Gateway(hosted_by(studio, packing, lost), first.log)
    second.until(lambda at: len(at.kept) >= 2)
    assert second.chunks[0].first_frame == lost.made
    assert {chunk.epoch for chunk in second.chunks} == {lost.epoch + 1}
    assert second.kept[0].chunk == first.kept[-1].chunk + 1
    second.hosted.apply(second.log.ask(controls.Finish()), controls.Finish())
    second.until(lambda at: at.last is not None)
    assert second.last == hosting.ENDED
    # and it was the same session all the time
    third = Gateway(hosted_by(studio, packing)).until(lambda at: len(at.kept) > same)
    assert third.kept[:same] == first.kept[:same]
    third.hosted.apply(1, controls.Finish())
    third.until(lambda at: at.last is not None)


def test_another_gateway_is_told_all_that_it_must_know(studio, packing):
    first = Gateway(hosted_by(studio, packing))
    first.hosted.apply(first.log.ask(controls.Gesture("nod")), controls.Gesture("nod"))
    first.until(lambda at: len(at.kept) >= 3 and len(at.checkpoints) >= 2)
    second = Gateway(first.hosted, fresh=True)
    first.outlet.take()
    assert first.outlet.take() is None, "nothing more comes to the first one"
    second.until(lambda at: len(at.kept) >= 2 and at.chunks)
    assert second.log.number == 1
    assert second.checkpoints[0].whole
    assert second.chunks[0].first_frame == 0
    lost = second.log.lost()
    assert lost.checkpoint.steps + len(lost.steps) == lost.num_steps
    second.hosted.apply(second.log.ask(controls.Finish()), controls.Finish())
    second.until(lambda at: at.last is not None)


@pytest.mark.skipif(find_spec("ray") is None, reason="RAY IS NOT INSTALLED: workers are not tested")
def test_a_session_goes_on_under_other_weights_of_the_same_shape(studio, packing):
    from knot_live.cluster.local_ray import import_ray

    import_ray()
    from knot_live.cluster.worker import Worker

    first = Gateway(hosted_by(studio, packing)).until(lambda at: len(at.kept) >= 3)
    first.hosted.leave()
    first.until(lambda at: at.last is not None)
    other = load_model("knot-tiny")
    with torch.no_grad():
        next(other.network.parameters()).mul_(1.01)
    model = replace(other)  # whose fingerprint is not known yet
    worker = object.__new__(Worker)
    worker._studio = Studio(model, Limits())
    at = worker._snapshot(first.log.lost())
    assert at.anchor.model == hosting_engine().fingerprint(model) != first.log.lost().checkpoint.header["model"]
    assert at.state.clock.chunk == first.kept[-1].chunk + 1


def test_a_refusal_comes_from_another_process_as_it_was():
    found = pickle.loads(pickle.dumps(ProtocolError("full", "it is full", "e1")))
    assert (found.code, str(found), found.event_id) == ("full", "it is full", "e1")


def test_what_is_said_last_is_heard_by_whoever_just_found_nothing():
    """A taker that saw an empty outlet, and then asked whether it was closed, once lost what came between the two."""
    outlet = hosting.Outlet([], lambda: None)
    assert outlet.take() == []
    outlet.put((hosting.LEFT, None))
    outlet.close()
    assert outlet.take() == [(hosting.LEFT, None)]
    assert outlet.take() is None
