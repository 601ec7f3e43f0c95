"""What a gateway and a table keep, without Ray: checkpoints and their changes, the journal since, who draws what."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as some

from knot_live import controls
from knot_live.chunk_lengths import TakenBack
from knot_live.cluster.checkpoints import BLOCK, Changed, Checkpoint, delta, flattened, merged
from knot_live.cluster.cluster_commands import _with_address, workers_of
from knot_live.cluster.failover import SessionLog
from knot_live.cluster.local_ray import ClusterError
from knot_live.cluster.mono import Mono
from knot_live.cluster.table import DRAINING, READY, STARTING, Table
from knot_live.events import Applied, Cut, Refused, StateChanged
from knot_live.journal import Begun, Did, Kept, TookBack
from knot_live.media_encoder import EncodedChunk


def checkpoint(chunk, steps, tensors=None, *, whole=True):
    return Checkpoint(chunk=chunk, steps=steps, header={}, notes={}, tensors=tensors or {}, whole=whole)


def encoded(first, count=4, *, epoch=0):
    return EncodedChunk(epoch=epoch, chunk=0, first_frame=first, num_frames=count, key=True, about={}, media={})


# checkpoints


@given(some.lists(some.integers(0, 5 * BLOCK + 6), max_size=6), some.sampled_from([torch.float32, torch.bfloat16]))
def test_a_change_on_top_of_what_was_there_is_what_is_there_now(places, dtype):
    before = {"window": torch.arange(5 * BLOCK // 4 + 2).to(dtype), "same": torch.ones(3)}
    flat = before["window"].clone().view(torch.uint8)
    for place in places:
        flat[place % len(flat)] ^= 1
    now = {"window": flat.view(dtype), "same": torch.ones(3), "new": torch.zeros(2, 2)}
    parts = flattened(before)
    change = delta(parts, flattened(now))
    found = {name: part.tensor() for name, part in merged(parts, change).items()}
    assert all(torch.equal(found[name].view(torch.uint8), now[name].view(torch.uint8)) for name in now)
    assert change["same"] is None
    assert torch.equal(parts["window"].tensor().view(torch.uint8), before["window"].view(torch.uint8))


def test_a_small_change_sends_little():
    before, now = torch.zeros(100 * BLOCK, dtype=torch.uint8), torch.zeros(100 * BLOCK, dtype=torch.uint8)
    now[7 * BLOCK + 3] = 1
    change = delta(flattened({"a": before}), flattened({"a": now}))
    assert isinstance(change["a"], Changed)
    assert checkpoint(0, 0, change).num_bytes == BLOCK
    other = delta(flattened({"a": before}), flattened({"a": now[:-1]}))
    assert checkpoint(0, 0, other).num_bytes == 100 * BLOCK - 1


# the gateway's log


def played(log, chunks, start=0):
    """Chunks that are drawn one after the other, each with its two steps."""
    for chunk in chunks:
        place = log.num_steps
        log.take_step(place, Begun(float(chunk), 3))
        log.take_step(place + 1, Kept(chunk, 0))
        log.take_chunk(encoded(start + 12 * chunk, 12))


def test_steps_are_kept_from_the_oldest_checkpoint_on_and_given_from_the_newest():
    log = SessionLog("builtin:ada")
    log.take_checkpoint(checkpoint(0, 0, flattened({"a": torch.zeros(4)})))
    for first in range(0, 40, 4):
        played(log, range(first, first + 4))
        log.take_checkpoint(checkpoint(first + 4, log.num_steps, whole=False))
        assert len(log._steps) <= 2 * 4 * 4
    played(log, (40, 41))
    lost = log.lost()
    assert lost.checkpoint.chunk == 40
    assert lost.steps == (Begun(40.0, 3), Kept(40, 0), Begun(41.0, 3), Kept(41, 0))
    assert (lost.num_steps, lost.made) == (84, 42 * 12)


def test_what_is_cut_leaves_no_checkpoint_behind_it():
    log = SessionLog("builtin:ada")
    log.take_checkpoint(checkpoint(0, 0, flattened({"a": torch.zeros(4)})))
    played(log, range(4))
    log.take_checkpoint(checkpoint(4, 8, flattened({"a": torch.ones(4)})))
    log.take_step(8, Did(1, controls.Cancel(30), 0.0))
    log.take_step(9, TookBack(TakenBack(2), 30))
    lost = log.lost()
    assert lost.checkpoint.chunk == 0
    assert torch.equal(lost.parts["a"].tensor(), torch.zeros(4))
    assert len(lost.steps) == 10
    log.take_checkpoint(checkpoint(4, 8, whole=False))  # of before the cut, and late
    assert log.lost().checkpoint.chunk == 0
    played(log, (2, 3))
    log.take_checkpoint(checkpoint(4, 8, whole=False))  # later still
    assert log.lost().checkpoint.chunk == 0
    log.take_checkpoint(checkpoint(4, 14, whole=False))
    assert log.lost().steps == ()
    log.take_step(14, TookBack(TakenBack(stay=1), None))  # of the chunk before it
    assert log.lost().checkpoint.chunk == 0
    log.take_checkpoint(checkpoint(4, 15, whole=False))  # what stays is in it
    assert log.lost().checkpoint.steps == 15


def test_a_control_is_left_until_it_was_done_or_refused():
    log = SessionLog("builtin:ada")
    asked = [controls.SetControls({"yaw": 0.1}), controls.Say("Good morning."), controls.Gesture("nod"),
             controls.Reference("upload:x")]  # fmt: skip
    assert [log.ask(control) for control in asked] == [1, 2, 3, 4]
    log.take_step(0, Did(1, asked[0], 0.0))
    log.take_step(1, Did(2, controls.Speech(np.zeros(3, np.float32), 24_000), 0.0))
    assert log.take_event(Refused(3, "no"))
    assert not log.take_event(Refused(3, "no"))
    lost = log.lost()
    assert lost.left == ((2, controls.CommitSpeech()), (4, asked[3]))
    assert lost.reference == "builtin:ada"
    log.take_step(2, Did(2, controls.CommitSpeech(), 0.0))
    log.take_step(3, Did(4, asked[3], 0.0))
    assert log.lost().left == ()
    assert log.lost().reference == "upload:x"
    assert log.ask(asked[0]) == 5
    assert log.left_behind(4) == ((5, asked[0]),)


def test_receipts_are_told_once_and_only_of_what_was_asked_here():
    log = SessionLog("builtin:ada")
    log.ask(controls.Gesture("nod"))
    assert log.take_event(Applied(1, 3, 36))
    assert not log.take_event(Applied(1, 3, 36))
    assert not log.take_event(Applied(9, 3, 36))
    assert log.take_event(StateChanged("paused"))


def test_frames_are_given_once_and_cut_ones_again():
    log = SessionLog("builtin:ada")
    assert [log.take_chunk(encoded(first)) for first in (0, 4, 8, 4, 8)] == [True, True, True, False, False]
    log.take_event(Cut(1, 6))
    assert log.made == 6
    assert not log.take_chunk(encoded(8))  # of the epoch before, and replaced
    assert log.take_chunk(encoded(6, epoch=1))
    assert (log.made, log.epoch) == (10, 1)


def test_frames_before_a_cut_that_come_after_it_are_shown():
    log = SessionLog("builtin:ada")
    log.take_chunk(encoded(0))
    log.take_event(Cut(1, 8))
    assert log.take_chunk(encoded(4))
    assert log.made == 8


def test_another_gateway_begins_with_a_checkpoint_and_what_was_done_since():
    log = SessionLog("builtin:ada")
    log.take_checkpoint(checkpoint(8, 16, flattened({"a": torch.ones(4)})))
    log.take_step(16, Begun(8.0, 3))
    log.take_step(17, Kept(8, 0))
    log.go_on(5, 2)
    lost = log.lost()
    assert (lost.checkpoint.chunk, lost.steps, lost.num_steps, lost.epoch) == (8, (Begun(8.0, 3), Kept(8, 0)), 18, 2)
    assert log.ask(controls.Pause()) == 6
    log.take_checkpoint(checkpoint(9, 18, {"a": None}, whole=False))
    assert torch.equal(log.lost().parts["a"].tensor(), torch.ones(4))


def test_a_session_without_a_checkpoint_begins_anew():
    log = SessionLog("builtin:ada")
    log.ask(controls.Gesture("nod"))
    lost = log.lost()
    assert (lost.checkpoint, lost.steps, lost.left) == (None, (), ((1, controls.Gesture("nod")),))


# speech on its way


def test_speech_arrives_at_the_sessions_rate_and_whole():
    mono, pieces = Mono(), []
    sound = (8000 * np.sin(np.arange(16_000) / 9)).astype(np.int16)
    for part in np.split(sound, 50):
        pieces += mono.heard(controls.Speech(part, 16_000))
    *rest, last = mono.heard(controls.CommitSpeech())
    assert last == controls.CommitSpeech()
    assert all(one.rate == 24_000 and one.samples.ndim == 1 for one in [*pieces, *rest])
    assert abs(sum(len(one.samples) for one in [*pieces, *rest]) - 24_000) <= 2
    assert list(mono.heard(controls.Gesture("nod"))) == [controls.Gesture("nod")]


def test_speech_that_cannot_be_is_left_to_the_session():
    wrong = controls.Speech(np.zeros(10, np.float32), 7)
    assert list(Mono().heard(wrong)) == [wrong]


# who draws what


def table(*names, per_worker=2, standbys=1):
    found = Table(per_worker, standbys)
    for name in names:
        found.add(name, 1, 0.0)
        found.rows[name].state = READY
    return found


def test_new_sessions_fill_workers_and_leave_the_standby_alone():
    found = table("a", "b", "c")
    assert [found.place(session) for session in "vwxyz"] == ["a", "b", "a", "b", None]
    assert found.place("z", lost=True) == "c"
    assert found.worker_of("z") == "c"


def test_a_lost_session_goes_to_the_standby_and_not_back():
    found = table("a", "b", "c")
    found.place("v")
    found.gone("a")
    assert found.place("v", lost=True, but=("a",)) == "b"
    assert found.rows["a"].sessions == set()
    found.rows["b"].state = found.rows["c"].state = STARTING
    assert found.place("v", lost=True) is None


def test_nobody_is_placed_on_a_worker_that_is_drained_and_new_weights_come_first():
    found = table("a", "b", standbys=0)
    found.rows["a"].state = DRAINING
    assert [found.place(session) for session in "xyz"] == ["b", "b", None]
    found.gone("a")
    assert found.rows["a"].state == DRAINING
    found.add("c", 2, 0.0)
    found.rows["c"].state = READY
    found.forget("x")
    assert found.place("z") == "c"


@given(some.lists(some.tuples(some.sampled_from("abcd"), some.sampled_from(["place", "lost", "forget", "gone"])),
                  max_size=40))  # fmt: skip
def test_a_session_has_one_worker_and_none_has_too_many(moves):
    found = table("a", "b", "c", "d", per_worker=3)
    for number, (name, move) in enumerate(moves):
        session = f"{number % 7}"
        if move == "gone":
            found.gone(name)
            for left in list(found.rows[name].sessions):
                found.place(left, lost=True, but=(name,))
        elif move == "forget":
            found.forget(session)
        elif move == "lost" or found.worker_of(session) is None:
            found.place(session, lost=move == "lost")
        drawn = [session for row in found.rows.values() for session in row.sessions]
        assert len(drawn) == len(set(drawn))


def test_there_are_as_many_workers_as_sessions_need_and_none_for_none():
    found = table("a", "b", "c", "d", per_worker=2)
    assert found.wanted(0, 4) == 0
    assert found.wanted(1, 4) == 2
    for session in "vwx":
        found.place(session)
    assert found.wanted(0, 4) == 3  # two for three sessions and one more, and a standby
    for session in "yz":
        found.place(session)
    assert found.wanted(0, 2) == 3
    assert found.idle(10.0, 5.0) == [name for name, row in found.rows.items() if not row.sessions]


def test_a_worker_whose_sessions_give_way_gets_no_more_and_another_one_is_wanted():
    found = table("a", "b", "c", per_worker=4)
    assert [found.place(session) for session in "vw"] == ["a", "b"]
    assert found.wanted(1, 4) == 2
    found.rows["a"].strained = True
    assert found.wanted(1, 4) == 3  # it draws one where four were expected
    assert [found.place(session) for session in "xyz"] == ["b", "b", "b"]
    found.rows["a"].strained = False
    assert found.place("u") == "a"


def test_a_table_that_was_lost_hears_of_sessions_again():
    found = table("a", "b")
    found.adopt("x", "b")
    found.adopt("x", "a")  # it is known already
    found.adopt("y", "gone")
    assert (found.worker_of("x"), found.worker_of("y")) == ("b", None)


# the command line


def test_workers_are_said_as_a_range():
    assert [workers_of(text, 6) for text in ("", "3", "0..4", "2..2")] == [(1, 6), (3, 3), (0, 4), (2, 2)]
    for wrong in ("4..2", "x", "-1..2", "0", "0..0"):
        with pytest.raises(ClusterError, match=r"wanted such as 1\.\.4"):
            workers_of(wrong, 6)


@pytest.mark.parametrize("given_", [["--cluster"], ["--cluster", "local"], ["--cluster=local"]])
def test_the_gateway_is_begun_at_the_address_of_the_local_ray(given_):
    found = _with_address(["serve", *given_, "--port", "0"], "127.0.0.1:6379")
    assert found == ["serve", "--cluster=127.0.0.1:6379", "--port", "0"]
