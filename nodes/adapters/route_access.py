"""Access to the pack's route: the rules of `knot_live/access.py`, for the arguments that ComfyUI was started with."""

from ...knot_live.access import ALLOWED_ORIGINS, AccessRules, listed, plain_origin, plain_origins

__all__ = ["ALLOWED_ORIGINS", "AccessRules", "access_rules", "plain_origin"]


def access_rules(listen: str, cors: str | None, allowed: str) -> AccessRules:
    """Addresses and origins from ComfyUI's `--listen` and `--enable-cors-header` and the environment's list."""
    return AccessRules(
        listens=listed(listen),
        origins=plain_origins(listed(allowed)),
        foreign_origins=plain_origins(listed(cors or "")),
        every_origin=(cors or "").strip() == "*",
    )
