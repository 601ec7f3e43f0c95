"""Runs a command. A user's mistake ends in one sentence on the error stream and exit code 1."""

import logging
import sys
from collections.abc import Callable, Sequence
from functools import partial

from ..errors import KnotError, short
from ..free_memory import is_lack_of_memory
from .interrupt import INTERRUPTED
from .parser import command_parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; its exit code."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    if arguments[:1] == ["evaluate"]:  # has moved to the lab, and has its own options
        from ..train import start_lab

        return start_lab(arguments, instead_of="python -m knot_core evaluate")
    options = command_parser().parse_args(arguments)
    return guarded(partial(options.run, options))


def guarded(command: Callable[[], int | None]) -> int:
    """The command's exit code; what the user got wrong is said in one sentence, and the exit code is then 1."""
    try:
        return command() or 0
    except KnotError as problem:
        sys.stderr.write(f"error: {problem}\n")
        return 1
    except (MemoryError, RuntimeError) as problem:
        if not is_lack_of_memory(problem):
            raise
        said = short(str(problem).splitlines()[0] if str(problem) else "MemoryError", str)
        sys.stderr.write(f"error: there is not as much memory as this needs ({said}); take a smaller --size, fewer "
                         "--num-window-frames, or a smaller model\n")  # fmt: skip
        return 1
    except KeyboardInterrupt:
        sys.stderr.write("stopped\n")
        return INTERRUPTED
