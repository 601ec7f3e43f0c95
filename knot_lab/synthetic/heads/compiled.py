"""numba, where it is installed: the one door to it, so that the lab imports without it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn, TypeVar

from knot_core.errors import DrivingError

try:
    import numba
except ImportError:
    numba = None

Function = TypeVar("Function", bound=Callable[..., Any])


def compiled(function: Function) -> Function:
    """Compiled at its first call and kept on disk; without numba, an error that says what to install."""
    if numba is not None:
        return numba.njit(cache=True, fastmath=True, nogil=True, error_model="numpy")(function)
    return _missing  # type: ignore[return-value]


def _missing(*_: Any, **__: Any) -> NoReturn:
    raise DrivingError('3D heads are drawn with numba, which is not installed; run: pip install "knot-forcing[train]"')
