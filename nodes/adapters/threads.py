"""Threads inside operations: of our own models as we choose, of what ComfyUI holds as ComfyUI has set them."""

from ...knot_core import Model, StreamSettings
from ...knot_core.stream.thread_choice import choose_threads
from .host_model import HostModel


def threads_for(
    model: Model, settings: StreamSettings, latent_size: tuple[int, int], *, as_before: int | None = None
) -> int | None:
    """For a stream of that latent size: what the user has set, else as before, else what suits; None: as there are."""
    if isinstance(model, HostModel):
        return as_before
    return model.threads or as_before or choose_threads(model, settings, latent_size)
