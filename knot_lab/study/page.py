"""The study as a page: what was compared and how, what holds, what does not, and by how much; all of it from a run."""

from __future__ import annotations

import hashlib
import os
import platform
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from knot_core.config import StreamSettings
from knot_core.model import Model

from ..evaluation.records import Record
from ..evaluation.report import markdown
from .study_plan import FORMS, StudyPlan
from .variants import CONTROL, VARIANTS
from .verdicts import FIGURES, TABLES, StudyReport

_BASELINES = {"truth": "the renderer's own frames", "codec": "the truth through the codec: the best a stream could be"}
_CPU_INFO = Path("/proc/cpuinfo")  # Linux

READING = """\
* Means are over people, ± half of the 95 % interval (Student's t). Differences are taken person by person, so that what
  makes one person harder than another falls out of them; they decide, not the means.
* "Holds": the interval of the difference lies wholly on the claim's side (of 0, or of what is allowed). "Does not
  hold": wholly on the other. "Not shown": neither; with more people and longer streams it might come out either way.
* No interval is corrected for the number of comparisons: of those that are truly nil, one in twenty looks real.
* A variant that the model was not trained for pays for that as well, and a trained one might do better. One that is a
  matter of settings can be trained for (`python3 run.py train variants`), and `--study-models` streams it by its own
  model; "trained for" says which were. So that more training is not taken for a variant's merit, these are held against
  `control` where that is there: the full settings, trained on by as many steps.
* Everything is drawn portraits at the built-in model's size: the comparison is of ways to stream one network, not of
  published networks.
* Blurred pictures neither flicker nor jerk nor show seams: read those figures beside PSNR and sharpness.
* The response counts from the first picture of the jump. What live use adds is the wait for the chunk under way."""


@dataclass(frozen=True, kw_only=True)
class Told:
    """The contents of a page beside the figures."""

    records: Sequence[Record]
    command: str  # that makes it again
    picture: str  # the plot's file, beside the page


def page(plan: StudyPlan, models: Mapping[str, Model], report: StudyReport, told: Told) -> str:
    """The whole page, in Markdown."""
    counts = Counter(found.verdict for found in report.found())
    parts = [
        "# The claims, measured",
        "Knot Forcing's parts turned off or changed one by one, and other ways to stream, on the same network, people, "
        "sentences and noise. This page is written by the run it tells of; do not edit it.",
        f"```sh\n{told.command}\n```",
        facts(plan, models, report, told.records),
        "## What holds, and what does not",
        f"{counts.total()} comparisons: " + ", ".join(f"{count} {verdict}" for verdict, count in counts.items()) + ".",
        report.claims(trained(plan)),
        f"![Fidelity and identity over time, the spectrum of the pictures' change, paired differences]({told.picture})",
        "## What was compared",
        variants(plan, models["full"].settings, report),
        "## What was measured",
        markdown(["figure", "what it is"], [[figure.heading, figure.meaning] for figure in FIGURES.values()]),
    ]
    for title, figures in TABLES.items():
        parts += [f"## {title}", report.table(figures), f"Less {report.held_against()}, person by person; bold where "
                  "the interval leaves out 0:", report.differences(figures)]  # fmt: skip
    return "\n\n".join([*parts, "## How to read it", READING]) + "\n"


def facts(plan: StudyPlan, models: Mapping[str, Model], report: StudyReport, records: Sequence[Record]) -> str:
    """The model, the data and the machine of the study, as a table."""
    full, weights = models["full"], plan.shared_files()
    own = full.settings
    minutes = sum(record.values.get("cpu_seconds", 0.0) for record in records) / 60
    short = FORMS["short"]
    own_numbers = f"numbers of its own; the short form is {short.identities} people and {short.seconds:g} s"
    form = f"`--study {plan.form}`" if plan.form else own_numbers
    people = report.mean("psnr", "full").count
    rows = [
        ["model", ", ".join(f"`{path.name}` sha256 `{sha256(path)}`" for path in weights)],
        ["settings", f"chunk {own.num_chunk_frames}, knot {own.num_knot_frames}, window {own.num_window_frames}, "
                     f"running ahead {own.run_ahead_stride} from {own.run_ahead_start}, fusion {own.fusion:g}, "
                     f"{plan.steps} steps, {full.dtype}".replace("torch.", "")],
        ["form", form],
        ["people", f"{people} held-out identities, voices and sentences"],
        ["streams", f"{plan.seconds:g} s each with speech, pose and mouth given, and {plan.step_seconds:g} s each with "
                    "a head that jumps from side to side and a mouth that follows the speech alone"],
        ["made on", hardware(plan.device)],
        ["computing", f"{minutes:.0f} minutes of one core for streams and figures, truth and readers not counted"],
    ]  # fmt: skip
    rows += [[f"model of {name}", f"`{path.name}` sha256 `{sha256(path)}`"] for name, path in plan.own_models().items()]
    return markdown(["", ""], rows)


def variants(plan: StudyPlan, settings: StreamSettings, report: StudyReport) -> str:
    """Names, what they are, how they are set, and whether the model was trained for them."""
    rows, trained_for = [], trained(plan)
    for name in report.variants():
        variant = VARIANTS.get(name)
        changed = "" if variant is None else _changed(variant.settings(settings), settings)
        rows.append([name, _BASELINES[name] if variant is None else variant.title, changed, trained_for.get(name, "")])
    skipped = [name for name in VARIANTS if name not in (*plan.variants, CONTROL)]
    text = markdown(["name", "what it is", "settings that differ", "trained for"], rows)
    return text + (f"\n\nNot run, or the same as full: {', '.join(skipped)}." if skipped else "")


def trained(plan: StudyPlan) -> dict[str, str]:
    """Variant -> whether the model that streams it was trained for it."""
    own = plan.own_models()
    return {name: "yes: a model of its own" if name in own else VARIANTS[name].trained for name in plan.variants}


def _changed(settings: StreamSettings, own: StreamSettings) -> str:
    ours, theirs = settings.to_dict(), own.to_dict()
    return ", ".join(f"`{name}={value}`" for name, value in ours.items() if value != theirs[name])


def sha256(path: Path) -> str:
    """The SHA-256 digest of a file, in hexadecimal."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def hardware(device: str) -> str:
    """Processor, cores, versions."""
    lines = _CPU_INFO.read_text(encoding="utf-8").splitlines() if _CPU_INFO.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    chip = torch.cuda.get_device_name(device) if device.startswith("cuda") else (names or [platform.machine()])[0]
    torch_version = torch.__version__.split("+")[0]
    return f"{chip}, {os.cpu_count()} cores, PyTorch {torch_version}, Python {platform.python_version()}"
