"""Measure a model against the truth: `python -m knot_core evaluate --json out/eval.json`.

Held-out identities speak held-out sentences with held-out voices; each is streamed with full driving by every variant,
and by the full one under speech alone and in silence. Beside the JSON it writes the table (.md), the plot, and contact
sheets; the JSON lines beside it let an evaluation that is cut off go on.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import sys
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from functools import partial
from pathlib import Path

import torch
from tqdm import tqdm

from ..errors import SettingsError
from ..model import Model
from .plots import save_plot, save_sheet
from .report import ORDER, Report, describe
from .runs import VARIANTS, Plan, Record, read_records, run_identity
from .scenes import MODES

DTYPES = {"auto": None, "float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
_LEAST_SECONDS = 1.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Evaluate, write what was found, and print the checks; 0 if all hold, 2 if some do not."""
    options = _parser().parse_args(arguments)
    plan = _plan(options)
    _run(plan, options.jobs)
    model = plan.load()
    report = Report(current_records(plan, model))
    _write(options, plan, model, report)
    for check in report.checks():
        sys.stderr.write(describe(check) + "\n")
    sys.stdout.write(json.dumps({"json": str(options.json), "holds": all(c.holds for c in report.checks())}) + "\n")
    return 0 if all(check.holds for check in report.checks()) else 2


def current_records(plan: Plan, model: Model) -> list[Record]:
    """Those of this plan; lines of other models, settings or lengths are passed over."""
    made_by = plan.made_by(model)
    wanted = {(i, mode, name, made_by[name]) for i in range(plan.identities) for mode, name in plan.runs()}
    found = {record.key: record for record in read_records(plan.records) if record.key in wanted}
    return [found[key] for key in sorted(found)]


def _run(plan: Plan, jobs: int) -> None:
    """All identities; several at a time, each in a process of its own, where there is more than one job."""
    numbers = range(plan.identities)
    if jobs == 1:
        for number in _shown(numbers, plan):
            run_identity(plan, number)
        return
    one = partial(run_identity, plan, threads=max(1, (os.cpu_count() or 1) // jobs))
    with ProcessPoolExecutor(jobs, mp_context=multiprocessing.get_context("spawn")) as pool:
        waiting = [pool.submit(one, number) for number in numbers]
        try:
            for done in _shown(as_completed(waiting), plan):
                done.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _shown(items: Iterable, plan: Plan) -> Iterable:
    return tqdm(items, total=plan.identities, unit="identity", file=sys.stderr)


def _write(options: argparse.Namespace, plan: Plan, model: Model, report: Report) -> None:
    options.json.parent.mkdir(parents=True, exist_ok=True)
    asked = {
        "model": plan.model,
        "identities": plan.identities,
        "seconds": plan.seconds,
        "steps": plan.steps,
        "settings": {name: plan.settings(model, name).to_dict() for name in plan.variants},
        "device": plan.device,
        "cpus": os.cpu_count(),
    }
    options.json.write_text(json.dumps(asked | report.to_dict(), indent=1) + "\n", encoding="utf-8")
    text = f"# Evaluation of {Path(plan.model).name}\n\n{plan.identities} identities, {plan.seconds:g} s each, "
    text += f"{plan.steps} steps; means over identities ± half of the 95 % interval; PSNR in dB.\n\n"
    text += f"{report.table()}\n\n{report.differences()}\n\n"
    text += "\n".join(f"* {describe(check)}" for check in report.checks()) + "\n"
    options.json.with_suffix(".md").write_text(text, encoding="utf-8")
    save_plot(options.plot or options.json.with_suffix(".png"), report)
    folder = options.json.with_name(f"{options.json.stem}-sheets")
    for number in range(plan.identities):
        rows = {name: plan.strip(number, "full", name) for name in ORDER}
        rows |= {f"full, mode {mode}": plan.strip(number, mode, "full") for mode in plan.modes if mode != "full"}
        save_sheet(folder / f"{number:03d}.png", rows)


def _plan(options: argparse.Namespace) -> Plan:
    if options.identities < 1 or options.seconds < _LEAST_SECONDS or options.jobs < 1 or options.steps < 1:
        raise SettingsError(
            f"cannot evaluate {options.identities} identities for {options.seconds:g} s with {options.steps} steps in "
            f"{options.jobs} jobs; give at least 1 identity, {_LEAST_SECONDS:g} s, 1 step, 1 job"
        )
    return Plan(
        identities=options.identities,
        seconds=options.seconds,
        steps=options.steps,
        variants=_names(options.variants, VARIANTS, "variant"),
        modes=_names(options.modes, MODES, "mode"),
        model=options.model,
        codec=options.codec,
        device=options.device,
        dtype=DTYPES[options.dtype],
        records=options.json.with_suffix(".jsonl"),
    )


def _names(given: str, known: Iterable[str], what: str) -> tuple[str, ...]:
    names = tuple(name.strip() for name in given.split(",") if name.strip())
    unknown = [name for name in names if name not in known]
    if unknown or not names:
        raise SettingsError(f"{what}s are {given!r}; choose from {', '.join(known)}, with commas between them")
    return names


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m knot_core evaluate", description=__doc__)
    parser.add_argument("--json", type=Path, default=Path("out/eval.json"), help="where the figures go")
    parser.add_argument("--plot", type=Path, help="where the plot goes (default: beside the figures)")
    parser.add_argument("--identities", type=int, default=16, help="held-out portraits (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=60.0, help="of each video (default: %(default)s)")
    parser.add_argument("--steps", type=int, default=4, help="denoising steps (default: %(default)s)")
    parser.add_argument("--variants", default=",".join(VARIANTS), help="default: %(default)s")
    parser.add_argument("--modes", default=",".join(MODES), help="default: %(default)s")
    parser.add_argument("--model", default="knot-tiny", help="knot-tiny, or a weights file")
    parser.add_argument("--codec", help="weights of a TAEHV autoencoder, for models without their own")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu", help="default: %(default)s")
    parser.add_argument("--dtype", choices=DTYPES, default="auto", help="auto: bfloat16 where the device has it")
    parser.add_argument(
        "--jobs", type=int, default=os.cpu_count() or 1, help="identities at a time (default: %(default)s)"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
