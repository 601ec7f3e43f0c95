"""The paper's ablations and comparisons: `python -m knot_lab study`, or `study full`.

Writes the figures (JSON), the page (Markdown) and the plot; the JSON lines beside them let a study that is cut off go
on.
"""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial
from pathlib import Path

from knot_core.errors import SettingsError, StateError

from ..evaluation.workers import each_identity
from .charts import save_study_plot
from .claims import CLAIMS
from .measured_runs import current_records, run_identity
from .page import Told, hardware, page, sha256
from .study_plan import StudyPlan
from .temporal_metrics import period_of
from .variants import CONTROL, VARIANTS, differ
from .verdicts import FIGURES, StudyReport


def run_study(plan: StudyPlan, out: Path, jobs: int, asked: str, publish: Path | None = None) -> StudyReport:
    """Run what is not there yet, and write what was found; with ``publish`` page and plot go there, too."""
    plan = replace(plan, variants=chosen_variants(plan))
    each_identity(partial(run_identity, plan), plan.identities, jobs)
    models = plan.load()
    records = current_records(plan, models)
    wanted = plan.identities * len(plan.runs())
    if len(records) < wanted:
        raise StateError(
            f"{len(records)} of {wanted} runs are of the model that lies there now: its weights were replaced while "
            "the study ran; run the same command again"
        )
    report = StudyReport(records, CLAIMS, plan.against())
    _write(out, plan, report, asked)
    for folder, name in ((out.parent, out.stem), *([] if publish is None else [(publish, "study")])):
        folder.mkdir(parents=True, exist_ok=True)
        save_study_plot(folder / f"{name}.png", report, period_of(models["full"].settings.num_chunk_frames))
        text = page(plan, models, report, Told(records=records, command=asked, picture=f"{name}.png"))
        (folder / f"{name}.md").write_text(text, encoding="utf-8")
    return report


def chosen_variants(plan: StudyPlan) -> tuple[str, ...]:
    """The requested variants and the full stream; without a request all that differ for this model, in order.

    The control runs where there is a model for it.
    """
    shared = replace(plan, variants=("full",)).load()["full"]
    wanted = {"full", *(plan.variants or differ(shared.settings))}
    if CONTROL in replace(plan, variants=(CONTROL,)).own_models():
        wanted.add(CONTROL)
    elif CONTROL in plan.variants:
        raise SettingsError(
            f"{CONTROL} is what models trained for a variant are held against, by a model of its own; give a folder "
            f"of such models, with {CONTROL}.safetensors, by --study-models"
        )
    return tuple(name for name in VARIANTS if name in wanted)


def _write(out: Path, plan: StudyPlan, report: StudyReport, asked: str) -> None:
    found = {
        "command": asked,
        "model": plan.model,
        "sha256": [sha256(path) for path in plan.shared_files()],
        "identities": plan.identities,
        "seconds": plan.seconds,
        "step_seconds": plan.step_seconds,
        "steps": plan.steps,
        "hardware": hardware(plan.device),
    }
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(found | report.to_dict(), indent=1) + "\n", encoding="utf-8")


def told(report: StudyReport) -> str:
    """A line for each claim, and what became of it."""
    return "\n".join(
        f"{found.verdict:14s} {found.claim.text}: {FIGURES[found.claim.figure].heading}, {found.of} "
        f"better by {found.better.mean:.3f} ± {found.better.half:.3f}"
        for found in report.found()
    )
