"""How drivings were made, so that a timeline that is edited takes the old one's place in all that was made of it.

A driving on a cable is a frozen value that knows of no node. What made it is remembered as long as it is there.
"""

import weakref
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ...knot_core import Driving

TIMELINE = "KnotForcingExpressionTimeline"

Prompt = Mapping[str, Any]  # ComfyUI's: nodes by id


@dataclass(frozen=True, kw_only=True, eq=False)
class DrivingRecipe:
    """The drivings that it was made of, by the inputs of the node that made it; and how."""

    parts: Mapping[str, Driving]
    make: Callable[..., Driving]


# by identity, since drivings are equal by content
_recipes: dict[int, tuple[weakref.ref[Driving], DrivingRecipe]] = {}


def remembered(driving: Driving, recipe: DrivingRecipe) -> Driving:
    """The driving, whose recipe is kept with it."""
    key = id(driving)
    _recipes[key] = weakref.ref(driving, lambda _: _recipes.pop(key, None)), recipe
    return driving


def timelines(prompt: Prompt, link: Any, driving: Driving | None) -> Iterator[str]:
    """Ids of the Expression Timelines of which the driving that comes through that link was made."""
    if driving is None or not isinstance(link, list):
        return
    key = link[0]
    if prompt.get(key, {}).get("class_type") == TIMELINE:
        yield key
    for slot, part in _parts(driving).items():
        yield from timelines(prompt, prompt[key]["inputs"].get(slot), part)


def remade(prompt: Prompt, link: Any, driving: Driving, node: str, timeline: Driving) -> Driving:
    """The driving with another timeline in that node's place; where there is none of that node in it, itself."""
    if not isinstance(link, list):
        return driving
    key = link[0]
    if key == node:
        return timeline
    parts = _parts(driving)
    new = {slot: remade(prompt, prompt[key]["inputs"].get(slot), part, node, timeline) for slot, part in parts.items()}
    if all(new[slot] is part for slot, part in parts.items()):
        return driving
    recipe = _recipes[id(driving)][1]
    return remembered(recipe.make(**new), DrivingRecipe(parts=new, make=recipe.make))


def _parts(driving: Driving) -> Mapping[str, Driving]:
    found = _recipes.get(id(driving))
    return {} if found is None else found[1].parts
