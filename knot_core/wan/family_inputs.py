"""The inputs that a family takes, and those that it cannot do without."""

from collections.abc import Callable

from ..config import NetworkConfig, takes_controls
from ..errors import SettingsError
from .families import ROWS
from .preset import Preset


def check_inputs(
    preset: Preset,
    config: NetworkConfig,
    *,
    has_text: bool = False,
    has_speech: bool = False,
    has_controls: bool = False,
    has_picture: bool = True,
) -> None:
    """Refuse inputs that the family cannot use, and missing ones that it requires.

    Raises:
        SettingsError: the message names the input, and what to do.
    """
    who = preset.title or preset.family
    if not has_picture and not preset.needs_text:
        raise SettingsError(f"got no picture, but {who} makes its video of one, not of a prompt; give a portrait")
    if has_text and not preset.needs_text:
        raise SettingsError(f"got a prompt, but {who} was trained without text; leave the prompt out")
    if preset.needs_text and not has_text:
        raise SettingsError(f"got no prompt, but {who} is driven by text; give one (UMT5 tokens)")
    if has_speech and config.adapter is None:
        instead = _instead(lambda row: row.adapter, "it")
        raise SettingsError(f"got speech, but {who} has no audio modules; {instead}")
    if has_controls and not takes_controls(config.adapter):
        takes = "speech" if config.adapter else "neither these nor speech"
        instead = _instead(lambda row: row.speech == "mel", "them")
        raise SettingsError(f"got expression controls, but {who} takes {takes}; {instead}")


def _instead(serves: Callable[[Preset], object], what: str) -> str:
    return f"leave {what} out, or take " + " or ".join(row.family for row in ROWS if serves(row))
