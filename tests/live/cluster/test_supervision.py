"""A gateway is begun again when it dies, and not where it cannot begin at all."""

import asyncio
from math import inf
from types import SimpleNamespace

from knot_live.cluster import local_ray


def test_a_gateway_that_cannot_begin_is_not_begun_again(capfd, monkeypatch):
    monkeypatch.setattr(local_ray, "_SETTLED", inf)  # on a loaded machine even an error takes long
    assert asyncio.run(local_ray.supervised(["nothing-of-this-name"], asyncio.Event())) == 2
    told = capfd.readouterr().err
    assert told.count("invalid choice") == 1
    assert "begun again" not in told


def test_one_that_ran_and_died_is_begun_again_and_given_up_at_last(capfd, monkeypatch):
    monkeypatch.setattr(local_ray, "_SETTLED", 0.0)  # it counts as one that ran
    monkeypatch.setattr(local_ray, "_MOST_IN_A_ROW", 2)
    seconds = iter([0.0, 1.0, 1.0, 0.5, 0.5, 0.0])  # the second and third die sooner than that
    monkeypatch.setattr(local_ray, "time", SimpleNamespace(monotonic=lambda: next(seconds)))
    assert asyncio.run(local_ray.supervised(["nothing-of-this-name"], asyncio.Event())) == 2
    assert capfd.readouterr().err.count("begun again") == 2
