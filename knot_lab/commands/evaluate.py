"""Measure a model against the truth: `python -m knot_lab evaluate --json out/eval.json`.

Held-out identities speak held-out sentences with held-out voices; each is streamed with full driving by every variant,
and by the full one under speech alone and in silence. Beside the JSON it writes the table (.md), the plot, and contact
sheets; the JSON lines beside it let an evaluation that is cut off go on.

`evaluate face-codec` measures the video autoencoder that moves a photo, `evaluate photos` the streams of photos,
`evaluate renders` those of rendered people; each has options of its own.

With `--study`, or as `python -m knot_lab study [short | full]`, it makes the paper's ablations and comparisons instead:
see `study`.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import sys
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path

import torch

from knot_core.errors import SettingsError
from knot_core.files import check_outputs, check_places
from knot_core.model import Model
from knot_core.model_loading import model_files

from ..evaluation.plots import save_plot, save_sheet
from ..evaluation.records import VARIANTS, Plan, Record, records_of, run_identity
from ..evaluation.report import ORDER, Report, describe
from ..evaluation.scenes import MODES
from ..evaluation.workers import each_identity
from ..study.run_study import run_study, told
from ..study.study_plan import FORMS, StudyPlan, form
from ..study.variants import VARIANTS as STUDY_VARIANTS
from . import evaluate_face_codec, evaluate_photos, evaluate_renders

DTYPES = {"auto": None, "float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
_OTHERS = {
    "face-codec": evaluate_face_codec.main,
    "photos": evaluate_photos.main,
    "renders": evaluate_renders.main,
}
_LEAST_SECONDS = 1.0
_IDENTITIES, _SECONDS = 16, 60.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Evaluate, write what was found, and print the checks; 0 if all hold, 2 if some do not."""
    given = sys.argv[1:] if arguments is None else list(arguments)
    if given and given[0] in _OTHERS:
        return _OTHERS[given[0]](given[1:])
    options = _parser().parse_args(given)
    options.given = given
    options.json = options.json or Path("out/eval.json" if options.study is None else "out/study.json")
    _check(options)
    if options.study is not None:
        return _study(options)
    plan = _plan(options)
    each_identity(partial(run_identity, plan), plan.identities, options.jobs)
    model = plan.load()
    report = Report(current_records(plan, model))
    _write(options, plan, model, report)
    for check in report.checks():
        sys.stderr.write(describe(check) + "\n")
    sys.stdout.write(json.dumps({"json": str(options.json), "holds": all(c.holds for c in report.checks())}) + "\n")
    return 0 if all(check.holds for check in report.checks()) else 2


def study_main(arguments: Sequence[str]) -> int:
    """`study [FORM] [OPTION ...]`: `evaluate --study FORM` by a name of its own."""
    form, options = (arguments[0], arguments[1:]) if arguments and arguments[0] in FORMS else ("short", arguments)
    return main(["--study", form, *options])


def current_records(plan: Plan, model: Model) -> list[Record]:
    """The records of this plan; lines of other models, settings or lengths are skipped."""
    made_by = plan.made_by(model)
    wanted = {(i, mode, name, made_by[name]) for i in range(plan.identities) for mode, name in plan.runs()}
    return records_of(plan.records, wanted)


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
    return Plan(
        identities=options.identities or _IDENTITIES,
        seconds=options.seconds or _SECONDS,
        steps=options.steps,
        variants=_names(options.variants or ",".join(VARIANTS), VARIANTS, "variant"),
        modes=_names(options.modes, MODES, "mode"),
        model=options.model,
        codec=options.codec,
        device=options.device,
        dtype=DTYPES[options.dtype],
        records=options.json.with_suffix(".jsonl"),
    )


def _study(options: argparse.Namespace) -> int:
    """Measure the claims; 0 whatever comes out."""
    plan = StudyPlan(
        **vars(form(options.study, options.identities, options.seconds)),
        steps=options.steps,
        variants=_names(options.variants, STUDY_VARIANTS, "variant") if options.variants else (),
        model=options.model,
        codec=options.codec,
        models=options.study_models,
        device=options.device,
        dtype=DTYPES[options.dtype],
        records=options.json.with_suffix(".jsonl"),
    )
    asked = shlex.join(["python3", "run.py", "evaluate", *_without_places(options.given)])
    report = run_study(plan, options.json, options.jobs, asked, options.publish)
    sys.stderr.write(told(report) + "\n")
    sys.stdout.write(json.dumps({"json": str(options.json)}) + "\n")
    return 0


def _check(options: argparse.Namespace) -> None:
    least = {"identities": 1, "seconds": _LEAST_SECONDS, "steps": 1, "jobs": 1}
    for name, low in least.items():
        value = getattr(options, name)
        if value is not None and not value >= low:
            raise SettingsError(f"--{name} is {value:g}; give at least {low:g}")
    for name in ("study_models", "publish"):
        if options.study is None and getattr(options, name) is not None:
            raise SettingsError(f"--{name.replace('_', '-')} belongs to a study; give --study, too")
    _check_written(options)


def _check_written(options: argparse.Namespace) -> None:
    """Nothing that is written is written over something that is read, or over one another."""
    out: Path = options.json
    published = {} if options.publish is None else {
        f"--publish's {name}": options.publish / name for name in ("study.md", "study.png")
    }  # fmt: skip
    outputs = {
        "--json": out,
        "its records": out.with_suffix(".jsonl"),
        "its table": out.with_suffix(".md"),
        "--plot": options.plot or out.with_suffix(".png"),
        "its sheets": out.with_name(f"{out.stem}-sheets"),
        **published,
    }
    check_places(outputs, folders=("its sheets",))
    check_outputs(
        outputs,
        model_files(options.model) | {"--codec": options.codec, "--study-models": options.study_models},
        folders=("its sheets",),
    )


def _without_places(given: Sequence[str]) -> list[str]:
    """The settings that determine the figures, without the paths of files."""
    places = argparse.ArgumentParser(add_help=False)
    for option in ("--json", "--plot"):
        places.add_argument(option)
    return places.parse_known_args(given)[1]


def _names(given: str, known: Iterable[str], what: str) -> tuple[str, ...]:
    names = tuple(name.strip() for name in given.split(",") if name.strip())
    unknown = [name for name in names if name not in known]
    if unknown or not names:
        raise SettingsError(f"{what}s are {given!r}; choose from {', '.join(known)}, with commas between them")
    return names


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m knot_lab evaluate", description=__doc__)
    parser.add_argument("--json", type=Path, help="file for the figures (default: out/eval.json, or out/study.json)")
    parser.add_argument("--plot", type=Path, help="file for the plot (default: beside the figures)")
    parser.add_argument(
        "--identities", type=int, help=f"held-out portraits (default: {_IDENTITIES}, or the study's form's)"
    )
    parser.add_argument("--seconds", type=float, help=f"of each video (default: {_SECONDS:g}, or the form's)")
    parser.add_argument("--steps", type=int, default=4, help="denoising steps (default: %(default)s)")
    parser.add_argument("--variants", help=f"default: {','.join(VARIANTS)}; of a study, all of its own")
    parser.add_argument("--modes", default=",".join(MODES), help="default: %(default)s")
    parser.add_argument("--model", default="knot-tiny", help="knot-tiny, or a weights file")
    parser.add_argument("--codec", help="weights of a TAEHV autoencoder, for models without their own")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu", help="default: %(default)s")
    parser.add_argument("--dtype", choices=DTYPES, default="auto", help="auto: bfloat16 where the device supports it")
    parser.add_argument(
        "--jobs", type=int, default=os.cpu_count() or 1, help="identities at a time (default: %(default)s)"
    )
    _add_study(parser)
    return parser


def _add_study(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("the study", "the paper's ablations and comparisons, in place of the evaluation")
    sizes = "; ".join(f"{name}: {f.identities} people, {f.seconds:g} s each" for name, f in FORMS.items())
    group.add_argument("--study", nargs="?", const="short", choices=FORMS, help=f"{sizes} (default: short)")
    group.add_argument(
        "--study-models", type=Path, metavar="FOLDER", help="models trained for a variant, NAME.safetensors"
    )
    group.add_argument("--publish", type=Path, metavar="FOLDER", help="also write the page and its plot there")
