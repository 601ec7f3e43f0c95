"""Edits of a running session: a timeline in the place of another; work that another thread does."""

import gc
import importlib
from concurrent.futures import CancelledError
from threading import Thread
from types import ModuleType

import numpy as np
import pytest

from .pack_parts import adapters

PROMPT = {
    "live": {"class_type": "KnotForcingLive", "inputs": {"driving": ["outer", 0]}},
    "outer": {"class_type": "KnotForcingCombineDriving", "inputs": {"first": ["idle", 0], "second": ["inner", 0]}},
    "inner": {"class_type": "KnotForcingCombineDriving", "inputs": {"first": ["a", 0], "second": ["b", 0]}},
    "idle": {"class_type": "KnotForcingDrivingIdle", "inputs": {"seed": 0}},
    "a": {"class_type": "KnotForcingExpressionTimeline", "inputs": {"timeline": ""}},
    "b": {"class_type": "KnotForcingExpressionTimeline", "inputs": {"timeline": ["text", 0]}},
}
LINK = PROMPT["live"]["inputs"]["driving"]


@pytest.fixture(scope="module")
def pack() -> ModuleType:
    return adapters("edits_alone", "driving_recipes", "node_thread")


@pytest.fixture(scope="module")
def made(pack: ModuleType) -> dict:
    """Drivings of the graph above, by node."""
    core = importlib.import_module("edits_alone.knot_core.driving.combine")
    expression = importlib.import_module("edits_alone.knot_core.driving.expression")
    driving = importlib.import_module("edits_alone.knot_core").Driving

    def held(name: str, value: float):
        return expression.read_expression(f'{{"{name}": [[0, {value}]]}}')

    def both(first, second):
        return core.combine(first, second, head=1.0, eyes=1.0, brow=1.0, mouth=1.0)

    def combined(first, second):
        recipe = pack.driving_recipes.DrivingRecipe(parts={"first": first, "second": second}, make=both)
        return pack.driving_recipes.remembered(both(first, second), recipe)

    a, b, idle = held("yaw", 0.1), held("roll", 0.2), driving.idle(0)
    inner = combined(a, b)
    return {"held": held, "a": a, "b": b, "inner": inner, "outer": combined(idle, inner)}


def values(driving, name: str) -> np.ndarray:
    controls = ("yaw", "pitch", "roll")
    return driving.pose.at(np.arange(50, 60))[:, controls.index(name)]


def test_the_timelines_of_a_driving_are_found_through_all_that_combines_them(pack, made):
    assert list(pack.driving_recipes.timelines(PROMPT, LINK, made["outer"])) == ["a", "b"]
    assert list(pack.driving_recipes.timelines(PROMPT, ["a", 0], made["a"])) == ["a"]
    assert list(pack.driving_recipes.timelines(PROMPT, LINK, made["held"]("yaw", 0.0))) == []
    assert list(pack.driving_recipes.timelines(PROMPT, None, None)) == []


def test_another_timeline_takes_its_place_and_can_be_replaced_again(pack, made):
    for value in (0.7, -0.3):
        new = pack.driving_recipes.remade(PROMPT, LINK, made["outer"], "b", made["held"]("roll", value))
        assert values(new, "roll") == pytest.approx(value, abs=1e-6)
        assert values(new, "yaw") == pytest.approx(0.1, abs=1e-6)
        again = pack.driving_recipes.remade(PROMPT, LINK, new, "a", made["held"]("yaw", value))
        assert values(again, "yaw") == pytest.approx(value, abs=1e-6)
        assert values(again, "roll") == pytest.approx(value, abs=1e-6)
    assert pack.driving_recipes.remade(PROMPT, LINK, made["outer"], "idle?", made["a"]) is made["outer"]


def test_a_recipe_goes_with_its_driving(pack, made):
    before = len(pack.driving_recipes._recipes)
    new = pack.driving_recipes.remade(PROMPT, LINK, made["outer"], "b", made["held"]("roll", 0.0))
    assert len(pack.driving_recipes._recipes) == before + 2
    del new
    gc.collect()
    assert len(pack.driving_recipes._recipes) == before


def test_work_is_done_by_the_thread_that_does_it_and_its_result_waits(pack):
    turn = pack.node_thread.NodeThreadQueue()
    answers: list[int] = []
    thread = Thread(target=lambda: answers.append(turn.ask(lambda: 7).result(10)))
    thread.start()
    while not answers:
        turn.do()
    thread.join()
    assert answers == [7]


def test_what_fails_ends_the_thread_that_does_it_and_leaves_nobody_waiting(pack):
    turn = pack.node_thread.NodeThreadQueue()
    failing, behind = turn.ask(lambda: 1 / 0), turn.ask(lambda: 1)
    with pytest.raises(ZeroDivisionError):
        turn.do()
    turn.close()
    for answer in (failing, behind, turn.ask(lambda: 2)):
        with pytest.raises(CancelledError):
            answer.result(0)
