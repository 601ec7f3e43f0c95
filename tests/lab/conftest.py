"""The lab's tests use the engine's tiny networks."""

import pytest

from knot_core.errors import DrivingError
from knot_lab.synthetic import espeak

from ..core.conftest import anchor, make_model, model, randomised, waves

__all__ = ["anchor", "make_model", "model", "randomised", "waves"]


@pytest.fixture(scope="session")
def _espeak_ng() -> None:
    """Skips, and says why, where the speech generator is not installed."""
    try:
        espeak.library()
    except DrivingError as missing:
        pytest.skip(str(missing))
