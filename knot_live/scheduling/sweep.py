"""All figures of docs/scale.md: each trace on few and many cards, and how many cards it takes."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from .costs import Costs
from .simulator import FCFS, FEWER_STEPS, ONE_EACH, OURS, Rules, Scene, capacity, cards_needed, simulate
from .traces import TRACES

LOADS = (0.5, 0.9, 1.2)
ALL_CARDS = (1, 2, 4, 8, 16, 32, 64)
COMPARED = (OURS, ONE_EACH, FCFS)
AT_ONCE = 20  # sessions at a time, of which it is found how many cards they need
_SHORTER = 5  # the search for that takes so many times fewer arrivals


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """A sweep of simulations; the rules are compared on each number of `cards`."""

    costs: Costs
    cards: Sequence[int] = (1, 64)
    count: int = 10_000
    seed: int = 1
    say: Callable[[str], object] = lambda _: None

    def run(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        growth = list(self._growth())
        return {
            "costs": self.costs.to_json(), "capacity": capacity(self.costs), "count": self.count, "seed": self.seed,
            "compared": list(self._compared()), "growth": growth, "efficiency": efficiency(growth),
            "needed": list(self._needed()),
        }  # fmt: skip

    def _compared(self) -> Iterator[dict[str, Any]]:
        """Every trace and load, with cards that die and are slow."""
        for trace in TRACES:
            for cards in self.cards:
                for load in LOADS:
                    for rules in COMPARED:
                        yield self._row(
                            Scene(trace=trace, cards=cards, load=load, count=self.count, failures=True, seed=self.seed),
                            rules,
                        )

    def _growth(self) -> Iterator[dict[str, Any]]:
        """More people than there is room for, on ever more cards that do not fail."""
        for cards in ALL_CARDS:
            for rules in (OURS, FEWER_STEPS):
                yield self._row(Scene(trace="steady", cards=cards, load=1.2, count=self.count, seed=self.seed), rules)

    def _needed(self) -> Iterator[dict[str, Any]]:
        for trace in TRACES:
            scene = Scene(trace=trace, cards=1, load=1.0, count=self.count // _SHORTER, seed=self.seed)
            for rules in (*COMPARED, FEWER_STEPS):
                cards = cards_needed(self.costs, scene, rules, AT_ONCE)
                self.say(f"{trace}, {AT_ONCE} sessions at a time, {rules.name}: {cards} cards")
                yield {"trace": trace, "rules": rules.name, "at_once": AT_ONCE, "cards": cards}

    def _row(self, scene: Scene, rules: Rules) -> dict[str, Any]:
        found = simulate(self.costs, scene, rules)
        self.say(
            f"{scene.trace}, {scene.cards} cards, {scene.load:g} of capacity, {rules.name}: {found.good:.3f} of "
            f"{found.sessions} play at 0.99 or more, {found.refused:.3f} refused"
        )
        about = {"trace": scene.trace, "cards": scene.cards, "load": scene.load, "failures": scene.failures}
        return about | {"rules": rules.name} | vars(found)


def efficiency(growth: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Sessions at a time with a play ratio of 0.99 or more, per card: on the most cards over on one; by rules."""
    per_card = {(row["rules"], row["cards"]): row["good_at_once"] / row["cards"] for row in growth}
    most = max(cards for _, cards in per_card)
    return {rules: per_card[rules, most] / per_card[rules, 1] for rules, cards in per_card if cards == 1}


def table(found: dict[str, Any]) -> str:
    """The figures as Markdown."""
    lines = [
        "| Trace | Cards | Load | Rules | Refused | At 0.99 | Play ratio p1 / p50 | Answer p50 / p95, s | "
        "First picture p95, s | All steps | Busy |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in found["compared"]:
        lines.append(
            f"| {row['trace']} | {row['cards']} | {row['load']:g} | {row['rules']} | {_percent(row['refused'])} | "
            f"{_percent(row['good'])} | {row['play_p1']:.3f} / {row['play_p50']:.3f} | "
            f"{row['answer_p50']:.2f} / {row['answer_p95']:.2f} | {row['first_p95']:.2f} | {_percent(row['whole'])} | "
            f"{_percent(row['busy'])} |"
        )
    lines += ["", "| Cards | Rules | Sessions at 0.99, at a time | Per card | Refused | All steps |",
              "|---|---|---|---|---|---|"]  # fmt: skip
    for row in found["growth"]:
        lines.append(
            f"| {row['cards']} | {row['rules']} | {row['good_at_once']:.1f} | {row['good_at_once'] / row['cards']:.2f} "
            f"| {_percent(row['refused'])} | {_percent(row['whole'])} |"
        )
    lines += ["", f"| Trace | Rules | Cards for {AT_ONCE} sessions at a time |", "|---|---|---|"]
    lines += [f"| {row['trace']} | {row['rules']} | {row['cards'] or 'none suffices'} |" for row in found["needed"]]
    return "\n".join(lines)


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"
