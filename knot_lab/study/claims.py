"""Claims about Knot Forcing and this implementation's choices, as comparisons that a study can decide.

A margin is how much worse still counts as no worse: a tenth of a dB, of a chunk, a hundredth of a correlation.
"""

from __future__ import annotations

from .verdicts import Claim

_DB, _RATIO, _CORRELATION, _CHUNK, _LEVEL = 0.1, 0.005, 0.01, 0.1, 0.1
_DRIFT = 0.5  # dB: what the built-in model is held to


def _more(text: str, than: str, *figures: str) -> list[Claim]:
    """The full stream is better."""
    return [Claim(text=text, figure=figure, than=than) for figure in figures]


def _no_worse(text: str, than: str, **margins: float) -> list[Claim]:
    """It is no worse than by the figure's margin."""
    return [Claim(text=text, figure=figure, than=than, margin=margin) for figure, margin in margins.items()]


CLAIMS: tuple[Claim, ...] = (
    *_more("The knot hides where chunks meet", "knot0", "boundary", "boundary_error", "seam"),
    *_no_worse("The knot costs no fidelity and no lips", "knot0", psnr=_DB, mouth_open_correlation=_CORRELATION),
    *_more("Fusion hides where chunks meet", "nofusion", "boundary", "boundary_error", "seam"),
    *_no_worse("Pinning the knot in x as well gains nothing", "knotinx", psnr=_DB, boundary_error=_RATIO),
    *_no_worse("A knot of two frames gains nothing", "k2", psnr=_DB, boundary_error=_RATIO),
    *_no_worse(
        "Frames in which chunks overlap may stay in the window", "nooverlap", psnr_last=_DB, boundary_error=_RATIO
    ),
    *_more("Running ahead keeps the person", "norunahead", "identity_last", "psnr_last"),
    *_more("Running ahead is better than an attention sink at position 0", "anchor0", "identity_last", "psnr_last"),
    *_no_worse("Running ahead by less gains nothing", "s2", identity_last=_DB, psnr_last=_DB),
    *_no_worse("Running ahead by 4 gains nothing over the model's own stride", "s4", identity_last=_DB, psnr_last=_DB),
    *_no_worse("Running ahead by more gains nothing", "s8", identity_last=_DB, psnr_last=_DB),
    *_more("Without the anchor the person is lost", "noanchor", "identity_last"),
    *_more("A window of one chunk is too short", "window3", "psnr_last", "boundary_error"),
    *_no_worse("A window of 6 gains nothing over the model's own", "window6", psnr_last=_DB, identity_last=_DB),
    *_no_worse("A window of 9 gains nothing", "window9", psnr_last=_DB, identity_last=_DB),
    *_no_worse("A window of 12 gains nothing", "window12", psnr_last=_DB, identity_last=_DB),
    *_more(
        "Better than plain Self-Forcing",
        "selfforcing",
        "boundary",
        "boundary_error",
        "restart",
        "identity_last",
        "psnr_last",
    ),
    *_more(
        "Better than a rolling window with sinks",
        "longlive",
        "boundary",
        "boundary_error",
        "seam",
        "identity_last",
        "psnr_last",
    ),
    *_no_worse("The face does not drift", "codec", drift=_DRIFT),
    *_no_worse("The person and the place do not drift", "codec", identity_drift=_DRIFT),
    *_no_worse("It flickers no more than the codec", "codec", flicker=_LEVEL),
    Claim(text="A change of the driving shows within one chunk", figure="response", than="", bound=1.0),
    *_no_worse("The knot does not delay the response", "knot0", response=_CHUNK),
)
