"""`python -m knot_live bench --load` and its like: how many sessions, and what becomes of them in trouble."""

import argparse
import json
import shlex
from typing import Any

from ..client import LiveError
from . import faults, load

KINDS = ("load", "overhead", "kill_workers", "kill_gateway", "drain", "misbehave", "chaos")
_OF_A_CLUSTER = {"overhead", "kill_workers", "drain"}


def add_options(bench: argparse.ArgumentParser) -> None:
    """One kind of measurement each; several are run one after the other."""
    add = bench.add_argument_group("of a server and light clients, without a browser").add_argument
    add("--load", action="store_true", help="how many sessions play without stall, and how many frames are drawn")
    add("--overhead", action="store_true", help="a chunk's way in the cluster against the single server's")
    add("--kill-workers", type=int, metavar="N", help="SIGKILL a busy worker N times")
    add("--kill-gateway", type=int, metavar="N", help="SIGKILL what holds the clients' sockets N times")
    add("--drain", type=int, metavar="N", help="drain a busy worker N times")
    add("--update", metavar="MODEL", help="with --drain: then other weights, worker by worker")
    add("--misbehave", action="store_true", help="clients that join, flood and stop reading: how the others play")
    add("--chaos", type=float, metavar="SECONDS", help="all of it at random")
    add("--sessions", default="1,2,4", metavar="N,N,...", help="of --load; the others take the last (default: 1,2,4)")
    add("--seconds", type=float, default=20.0, metavar="S", help="of each measurement (default: %(default)g)")
    add("--steps", type=int, metavar="N", help="denoising steps; default: what the server chooses")
    add("--cluster", nargs="?", const="", metavar="ADDRESS", help="of a cluster; without an address: of a local Ray")
    add("--serve", default="", metavar="OPTIONS", help="of --load: further options of the server, such as '--lanes 2'")
    add("--seed", type=int, default=0, metavar="N", help="of --chaos")


def asked(options: argparse.Namespace) -> list[str]:
    """The kinds of measurement that are asked for."""
    return [kind for kind in KINDS if getattr(options, kind)]


async def measure(options: argparse.Namespace, say: load.Say) -> dict[str, Any]:
    """All that is asked for, by its name.

    Raises:
        LiveError: it needs a cluster, or a server does not begin.
    """
    counts, cluster = _counts(options.sessions), options.cluster
    if cluster is None and (needs := _OF_A_CLUSTER & set(asked(options))):
        raise LiveError("bench", f"--{min(needs).replace('_', '-')} needs --cluster")
    wish = {} if options.steps is None else {"settings": {"steps": options.steps}}
    kinds = {
        "load": lambda: load.load(counts, options.seconds, cluster, wish, say, shlex.split(options.serve)),
        "overhead": lambda: load.overhead(options.seconds, cluster, wish, say),
        "kill_workers": lambda: faults.kill_workers(options.kill_workers, counts[-1], cluster, say),
        "kill_gateway": lambda: faults.kill_gateway(options.kill_gateway, counts[-1], cluster, say),
        "drain": lambda: faults.drain(options.drain, options.update, counts[-1], cluster, say),
        "misbehave": lambda: faults.misbehave(options.seconds, counts[-1], cluster, say),
        "chaos": lambda: faults.chaos(options.chaos, counts[-1], cluster, options.seed, say),
    }
    return {kind: await kinds[kind]() for kind in asked(options)}


def _counts(text: str) -> list[int]:
    try:
        counts = [int(part) for part in text.split(",")]
    except ValueError:
        counts = []
    if not counts or min(counts) < 1:
        raise LiveError("bench", f"got --sessions {text!r:.40}, wanted counts such as 1,2,4")
    return counts


def written(found: dict[str, Any]) -> str:
    """The figures for people, without the rows behind them."""
    short = {kind: {name: value for name, value in figures.items() if name not in ("fastest", "paced", "memory_mib")}
             for kind, figures in found.items()}  # fmt: skip
    return json.dumps(short, indent=1)
