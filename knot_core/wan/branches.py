"""The passes that classifier-free guidance makes at each step, and their weights."""

from dataclasses import dataclass

from ..config import WINDOWS, NetworkConfig, StreamSettings


@dataclass(frozen=True, kw_only=True)
class Branch:
    """The conditions of one pass."""

    negative: bool = False  # under the negative prompt
    silent: bool = False  # without sound
    weight: float = 1.0


def branches(settings: StreamSettings, config: NetworkConfig) -> tuple[Branch, ...]:
    """The passes of a step; the first is under everything, and alone where no guidance is asked for.

    Two scales that are the same take two passes. Of two that differ, a and t of sound and text, with velocity v, silent
    velocity v_s, that under the negative prompt v_n, and v_ns:
    v_ns + t (v - v_n) + a (v_n - v_ns)  (InfiniteTalk);  v_ns + t (v_s - v_ns) + a (v - v_s)  (OmniAvatar).
    """
    text, sound = settings.text_guidance, settings.sound_guidance
    if config.adapter is None:
        sound = 1.0
    if text == sound == 1:
        return (Branch(),)
    if text == sound or 1 in (text, sound):
        scale = sound if text == 1 else text
        return (Branch(weight=scale), Branch(negative=text != 1, silent=sound != 1, weight=1 - scale))
    if config.adapter is not None and config.adapter.name == WINDOWS:
        first, between = text, Branch(negative=True, weight=sound - text)
        return (Branch(weight=first), between, Branch(negative=True, silent=True, weight=1 - sound))
    return (
        Branch(weight=sound),
        Branch(silent=True, weight=text - sound),
        Branch(negative=True, silent=True, weight=1 - text),
    )
