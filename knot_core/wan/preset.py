"""A family of checkpoints as data: how its files are recognised, and how it streams."""

from dataclasses import dataclass, fields, replace
from typing import Literal

from ..config import StreamSettings
from ..errors import SettingsError, listed
from ..geometry import SPATIAL

AdapterKind = Literal["pack", "units", "cross"]  # AdapterConfig, the same of face units, AudioCrossConfig
Timing = Literal["own", "spread", "late"]
Speech = Literal["mel", "wav2vec2-base-960h", "chinese-wav2vec2-base"]  # what a family's driving is made of
SMALL, LARGE = 1536, 5120  # widths of the 1.3B and the 14B network


@dataclass(frozen=True, kw_only=True)
class Preset:
    """One family; a file's metadata takes precedence in how it streams."""

    family: str
    settings: StreamSettings
    fps: int  # pixel frames a second
    height: int  # pixels that it was trained for
    width: int
    spatial: int = SPATIAL  # pixels per latent cell of its codec, each way
    has_own_codec: bool = False  # a file `<name>-codec.safetensors` lies beside it; otherwise the user names one
    licence: str = "see where the file came from"
    title: str = ""
    layout: str = "t2v16"
    adapter: AdapterKind | None = None
    speech: Speech | None = None
    # Which of the sound's rows a pixel frame hears: that of its own time; the same, but a recording's are spread over
    # one pixel frame more than it is long; or that of the pixel frame before, and the first one zeros.
    timing: Timing = "own"
    takes_guidance: bool = False  # whether it was trained with prompt and sound left out at times, and not distilled
    needs_text: bool = True  # UMT5 tokens of a prompt; a family without text cannot use one
    aligns_faces: bool = False  # whether its references have their face where `media/face_alignment.py` says
    timestep_dtype: str = "float32"  # what the timestep is rounded to before the network is fed
    unknown_frames: str = "zeros"  # what stands in the condition channels of frames that are not known
    known_in_x: bool = False  # whether known frames stand in x as well
    widths: tuple[int, ...] = (SMALL,)  # published sizes
    names: str = ""  # regular expression: names of file and folders that this family alone uses
    hints: str = ""  # another: names that it shares with others, so that they do not tell which it is
    # What wraps the weights in the published file: a key, or a prefix ending in a dot. Of several sets the first.
    wrappers: tuple[str, ...] = ()
    is_base: bool = False  # what other families were trained from: their names hold its name
    notes: str = ""


def with_settings(settings: StreamSettings, /, **given: object) -> StreamSettings:
    """The settings with single ones replaced; `steps` or `shift` take the place of explicit timesteps.

    Raises:
        SettingsError: there is no setting of that name, or a value is not possible.
    """
    unknown = sorted(set(given) - {field.name for field in fields(StreamSettings)})
    if unknown:
        known = ", ".join(field.name for field in fields(StreamSettings))
        raise SettingsError(f"there is no setting {listed(unknown)}; there are {known}")
    if "steps" in given or ("shift" in given and not settings.sigma_table):
        given = {"timesteps": (), "first_timesteps": ()} | given
    if given.get("num_sink_frames") == 0:
        given = {"sink_decay": 1.0} | given
    return replace(settings, **given)


def plain(settings: StreamSettings) -> StreamSettings:
    """The settings without knot and anchor, which this software adds. Starting from the reference stays."""
    return replace(settings, num_knot_frames=0, use_anchor=False)
