"""Many jobs on several ComfyUIs or live servers: a table or a folder goes in, a video a job and one report come out.

    python clients/farm.py jobs.csv --comfy http://one:8188 --comfy http://two:8188 --out videos
    python clients/farm.py folder --live http://127.0.0.1:8765 --at-once 2      # ada.png says ada.wav, and so on
    python clients/farm.py folder --every-pair --comfy http://127.0.0.1:8188    # each picture says each sound

A row of the table is a job; columns, of which any may be missing: name, reference (picture), audio, text and voice
(live servers speak it), seed, seconds, and NODE.INPUT as --set of clients/queue.py takes it. Files are looked for
beside the table. What fails is tried again, on another machine if there is one, and later each time. The jobs of a
machine that falls silent go to the others, and it is asked again and again whether it is back. Call it again with the
same --out after a crash or a power cut: what is done stays done, and prompts that a ComfyUI went on with are fetched.
farm.json there is the journal, report.json the report. Ctrl-C takes no more jobs and finishes those that run; a second
one stops them.

It needs Python 3.10 and `pip install websocket-client`; for live servers also this pack: pip install -e ".[live]".
Exit codes: 0 all is there; 1 something is not, and the report says why; 2 wrong options; 130 stopped.
"""

import sys
from pathlib import Path

if str(Path(__file__).parent) in sys.path:  # queue.py has the name of a module that the standard library imports
    sys.path.remove(str(Path(__file__).parent))

import argparse
import os
import time
from collections import Counter
from collections.abc import Iterable
from importlib import import_module
from importlib.util import module_from_spec, spec_from_file_location
from typing import Any


def _farming() -> None:
    """The package beside this file, which is found without a place on Python's path."""
    spec = spec_from_file_location("knot_forcing_farming", Path(__file__).with_name("farming") / "__init__.py")
    sys.modules[spec.name] = module_from_spec(spec)
    spec.loader.exec_module(sys.modules[spec.name])


_farming()
jobs, machines, sharing = (import_module(f"knot_forcing_farming.{name}") for name in ("jobs", "machines", "sharing"))
queue = jobs.queue
Json = dict[str, Any]


def report(wanted: Iterable[Any], journal: Any, farm: Any, seconds: float) -> Json:
    """What became of it all."""
    entries = [{"name": job.name} | journal.entries[job.name] for job in wanted]
    states = Counter(entry["state"] for entry in entries)
    return {
        "done": states[jobs.DONE],
        "failed": states[jobs.FAILED],
        "left": states[jobs.WAITING] + states[jobs.RUNNING],
        "seconds": round(seconds, 1),
        "machines": {
            name: dict(found) | {"written_off": name in farm.written_off()} for name, found in farm.figures.items()
        },
        "jobs": entries,
    }


def table(found: Json) -> str:
    """The same for people: what is not done at the end, where it is seen."""
    lines = [f"{'machine':40} {'done':>5} {'failed':>7} {'silent':>7} {'busy':>9}"]
    lines += [
        f"{name:40.40} {one['done']:5} {one['failed']:7} {one['silent']:7} {one['busy_seconds']:7.1f} s"
        + ("  written off" if one["written_off"] else "")
        for name, one in found["machines"].items()
    ]
    lines.append(f"{'job':40} {'state':8} {'tries':>5} {'time':>9}")
    for entry in sorted(found["jobs"], key=lambda entry: entry["state"] != jobs.DONE):
        told = f"{entry['seconds']:7.1f} s" if entry["state"] == jobs.DONE else f"  {entry.get('reason', '')}"
        lines.append(f"{entry['name']:40.40} {entry['state']:8} {entry.get('tries', 0):5} {told}")
    totals = f"{found['done']} done, {found['failed']} failed, {found['left']} left, in {found['seconds']} s"
    return "\n".join([*lines, totals])


def machines_of(options: argparse.Namespace) -> list[Any]:
    """One for each job that may be done at the same time."""
    workflow = queue.read_workflow(options.workflow)
    found = [machines.ComfyMachine(name, workflow) for name in dict.fromkeys(options.comfy)]
    token = os.environ.get("KNOT_LIVE_TOKEN")
    if options.token_file is not None:
        token = queue.read_text(options.token_file).strip()
    for name in dict.fromkeys(options.live):
        found += [machines.LiveMachine(name, token)] * options.at_once
    return found


def play(options: argparse.Namespace) -> int:
    """All of it; the exit code."""
    wanted, began = jobs.read_jobs(options.jobs, every_pair=options.every_pair), time.monotonic()
    options.out.mkdir(parents=True, exist_ok=True)
    journal = jobs.Journal(options.out / "farm.json")
    works = sharing.to_do(wanted, journal, options.out)
    queue.say(f"{len(wanted)} jobs, {len(wanted) - len(works)} of them done before")
    rules = sharing.Rules(
        tries=options.tries, backoff=options.backoff, give_up=options.give_up, longest=options.longest
    )
    farm = sharing.Farm(works, machines_of(options), journal, options.out, rules)
    stopped = farm.run()
    found = report(wanted, journal, farm, time.monotonic() - began)
    jobs.write_whole(options.out / "report.json", found)
    print(table(found), flush=True)
    return 130 if stopped else int(found["done"] < len(wanted))


def parse(arguments: list[str] | None) -> argparse.Namespace:
    head, _, tail = str(__doc__).partition("\n\n")
    made = argparse.ArgumentParser(description=head, epilog=tail, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = made.add_argument
    add("jobs", type=Path, help="a table (CSV), or a folder of pictures and sounds")
    add("--comfy", action="append", default=[], metavar="URL", help="a ComfyUI; may be repeated")
    add("--live", action="append", default=[], metavar="URL", help="a live server or a cluster; may be repeated")
    add("--at-once", type=int, default=1, metavar="N", help="jobs on one live server (default: %(default)s)")
    add("--token-file", type=Path, metavar="FILE", help="of the live servers; or KNOT_LIVE_TOKEN in the environment")
    add("--workflow", type=Path, default=queue.WORKFLOW, metavar="FILE", help="in API form (default: the headless one)")
    add("--every-pair", action="store_true", help="of a folder: each picture says each sound")
    rules = sharing.Rules()
    add("--tries", type=int, default=rules.tries, metavar="N", help="of a job (default: %(default)s)")
    add(
        "--backoff",
        type=float,
        default=rules.backoff,
        metavar="S",
        help="before the second (default: %(default)g)",
    )
    add("--give-up", type=float, default=rules.give_up, metavar="S",
        help="without an answer, after which a machine is written off (default: %(default)g)")  # fmt: skip
    add(
        "--longest",
        type=float,
        default=rules.longest,
        metavar="S",
        help="that a job may take (default: %(default)g)",
    )
    add("--out", type=Path, default=Path("out"), metavar="FOLDER", help="for what comes back (default: %(default)s)")
    options = made.parse_args(arguments)
    if not options.comfy and not options.live:
        made.error("name a machine: --comfy URL or --live URL")
    if min(options.at_once, options.tries) < 1 or min(options.backoff, options.give_up, options.longest) <= 0:
        made.error("--at-once, --tries and the seconds must be above 0")
    return options


def main(arguments: list[str] | None = None) -> int:
    return queue.exit_code(lambda: play(parse(arguments)))


if __name__ == "__main__":
    sys.exit(main())
