"""Work beside other work on one CUDA device."""

from contextlib import AbstractContextManager, nullcontext

import torch


def second_stream(device: torch.device) -> AbstractContextManager[torch.cuda.Stream | None]:
    """Within it a CUDA device computes beside what it is asked elsewhere; entered as often as wanted."""
    return _OnStream(torch.cuda.Stream(device)) if device.type == "cuda" else nullcontext()


class _OnStream:
    """`torch.cuda.stream`, which says what it has entered."""

    def __init__(self, stream: torch.cuda.Stream) -> None:
        self._stream, self._entered = stream, torch.cuda.stream(stream)

    def __enter__(self) -> torch.cuda.Stream:
        self._entered.__enter__()
        return self._stream

    def __exit__(self, *error: object) -> None:
        self._entered.__exit__(*error)
