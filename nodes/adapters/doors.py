"""Access to the pack's route: the rules of `knot_live/access.py`, for the arguments that ComfyUI was started with."""

from ...knot_live.access import ALLOWED_ORIGINS, Doors, listed, plain_origin, plain_origins

__all__ = ["ALLOWED_ORIGINS", "Doors", "doors", "plain_origin"]


def doors(listen: str, cors: str | None, allowed: str) -> Doors:
    """Addresses and origins from ComfyUI's `--listen` and `--enable-cors-header` and the environment's list."""
    return Doors(
        listens=listed(listen),
        origins=plain_origins(listed(allowed)),
        foreign_origins=plain_origins(listed(cors or "")),
        every_origin=(cors or "").strip() == "*",
    )
