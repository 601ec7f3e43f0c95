"""The study's page says what was measured, and no more."""

import pytest

from knot_lab.study.charts import COLOURS, save_study_plot
from knot_lab.study.claims import CLAIMS
from knot_lab.study.run_study import told
from knot_lab.study.variants import VARIANTS
from knot_lab.study.verdicts import FIGURES, TABLES, Claim, StudyReport

from .study_records import HARD, NOISE, records

PERIOD = 12


@pytest.mark.parametrize(
    ("gain", "margin", "verdict"),
    [
        (0.5, 0.0, "holds"),
        (-0.5, 0.0, "does not hold"),
        (0.0, 0.0, "not shown"),
        (-0.05, 0.1, "holds"),
        (-0.5, 0.1, "does not hold"),
        (-0.1, 0.1, "not shown"),
    ],
)
@pytest.mark.parametrize(("figure", "sign"), [("psnr", 1), ("seam", -1)])
def test_a_claim_is_judged_by_paired_differences(gain, margin, verdict, figure, sign):
    measured = records("full", **{figure: HARD + sign * (gain + NOISE)}) + records("knot0", **{figure: HARD})
    claim = Claim(text="better", figure=figure, than="knot0", margin=margin)
    (found,) = StudyReport(measured, [claim]).found()
    assert found.verdict == verdict
    assert found.better.mean == pytest.approx(gain)


def test_a_bound_is_judged_alone_and_one_person_decides_nothing():
    claim = Claim(text="soon", figure="response", than="", bound=1.0)
    (found,) = StudyReport(records("full", response=[0.2, 0.4, 0.3]), [claim]).found()
    assert (found.verdict, found.better.mean) == ("holds", pytest.approx(0.7))
    (found,) = StudyReport(records("full", response=[0.2]), [claim]).found()
    assert found.verdict == "cannot be told from one person"


def test_figures_of_both_modes_stand_side_by_side():
    both = records("full", psnr=[30, 31], boundary=[1.1, 0.8], true_boundary=[1.0, 1.0])
    report = StudyReport(both + records("full", mode="steps", lips=[0.5, 0.7]), [])
    assert report.mean("psnr", "full").mean == pytest.approx(30.5)
    assert report.mean("lips", "full").mean == pytest.approx(0.6)
    assert report.mean("boundary_error", "full").mean == pytest.approx(0.15)
    assert report.mean("lips", "full").count == 2


def test_claims_of_variants_that_did_not_run_are_left_out():
    measured = records("full", psnr=HARD, boundary=HARD, true_boundary=HARD) + records("k2", psnr=HARD)
    assert {found.claim.than for found in StudyReport(measured, CLAIMS).found()} <= {"", "k2"}


def test_every_claim_and_every_table_is_of_what_is_measured():
    assert {claim.figure for claim in CLAIMS} <= set(FIGURES)
    assert {claim.than for claim in CLAIMS} <= {"", "codec", *VARIANTS}
    usual = {name for name, variant in VARIANTS.items() if variant.usual}
    assert usual - {"full", "control", "k1"} <= {claim.than for claim in CLAIMS}
    assert [figure for figures in TABLES.values() for figure in figures] == list(FIGURES)
    assert set(COLOURS) == {"truth", "codec", *VARIANTS}


def test_a_plot_is_drawn_where_a_variant_fails_and_where_figures_are_missing(tmp_path):
    measured = records("full", psnr_last=HARD) + records("codec", psnr_last=HARD)
    measured += records("noanchor", psnr_last=HARD - 1e6) + records("knot0", psnr_last=HARD)
    save_study_plot(tmp_path / "study.png", StudyReport(measured, CLAIMS), PERIOD)
    assert (tmp_path / "study.png").stat().st_size > 1000


def test_a_told_claim_names_its_verdict():
    measured = records("full", seam=HARD) + records("knot0", seam=HARD + 1 + NOISE)
    lines = told(StudyReport(measured, CLAIMS)).splitlines()
    assert any(line.startswith("holds") and "The knot hides" in line for line in lines)
