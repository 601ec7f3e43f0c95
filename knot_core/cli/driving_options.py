"""Options that direct the driving, and the driving that they give."""

from argparse import ArgumentParser, Namespace
from pathlib import Path

from ..driving import Driving, load_speech_encoder
from ..driving.audio import FPS
from ..driving.combine import PARTS, combine
from ..driving.driving_plot import MAX_SECONDS, PreviewOptions, draw_driving
from ..driving.expression import read_expression
from ..driving.faces import pose_from_pictures
from ..driving.speech_options import SILENCES, SpeechOptions, speak
from ..errors import MediaError, SettingsError
from ..media import AudioFile, picture_format
from ..media.frames import read_frames
from ..model import Model

_SPEECH_OPTIONS = ("gain", "smoothing", "silence", "silence_level")


def add_directing(parser: ArgumentParser) -> None:
    """Options beside --audio, --controls and --idle."""
    group = parser.add_argument_group("directing")
    group.add_argument(
        "--expression",
        type=Path,
        metavar="JSON",
        help="expression timeline (key frames), over other drivings",
    )
    group.add_argument("--pose-video", type=Path, metavar="CLIP", help="head and eyes of a filmed person (mediapipe)")
    group.add_argument("--face-model", type=Path, metavar="FILE", help="face_landmarker.task, for newer mediapipe")
    group.add_argument("--gain", type=float, metavar="DB", help="amplify the speech: the mouth opens wider")
    group.add_argument("--smoothing", type=float, metavar="S", help="seconds over which the mouth is smoothed")
    group.add_argument("--silence", choices=SILENCES, help="idle motion in pauses (default: same)")
    group.add_argument(
        "--silence-level", type=float, metavar="DB", help="quieter sound counts as a pause (default: -45)"
    )
    group.add_argument("--preview", type=Path, metavar="PNG", help="also plot the driving over time")


def drives(options: Namespace) -> bool:
    """Whether a driving is given here."""
    return options.expression is not None or options.pose_video is not None


def check_directing(options: Namespace) -> None:
    """Refuse combinations of options that cannot work.

    Raises:
        SettingsError: two options set the same thing, or one is given without the option that it belongs to.
    """
    if options.pose_video is not None and (options.controls is not None or options.idle):
        raise SettingsError("--pose-video sets the motion of the head, as --controls and --idle do; give one of them")
    given = [name for name in _SPEECH_OPTIONS if getattr(options, name) is not None]
    if given and options.audio is None:
        raise SettingsError(
            f"got {' and '.join(given)}, which change how speech drives the mouth; give --audio as well"
        )
    if options.face_model is not None and options.pose_video is None:
        raise SettingsError("--face-model is for --pose-video, which is not given; leave it out")


def directed_driving(options: Namespace, model: Model, audio: AudioFile | None) -> Driving:
    """Speech, or what moves without it; then the expression timeline over it, where it names a control."""
    driving = _beneath(options, model, audio)
    if options.expression is not None:
        driving = combine(driving, read_expression(options.expression), **dict.fromkeys(PARTS, 1.0))
    if options.preview is not None:
        _draw(options, driving)
    return driving


def _beneath(options: Namespace, model: Model, audio: AudioFile | None) -> Driving:
    pose = _pose(options)
    if audio is not None:
        given = {name: getattr(options, name) for name in _SPEECH_OPTIONS if getattr(options, name) is not None}
        path = options.speech_encoder
        encoder = None if path is None else load_speech_encoder(path, model.device)
        speech = SpeechOptions(**given)
        return speak(audio, model, options=speech, pose=pose or "idle", seed=options.seed, encoder=encoder)
    # nothing moves a model of no adapter but its prompt
    return pose or (Driving.none() if model.config.adapter is None else Driving.idle(options.seed))


def _pose(options: Namespace) -> Driving | None:
    if options.controls is not None:
        return Driving.from_controls(options.controls)
    if options.pose_video is not None:
        return pose_from_pictures(read_frames(options.pose_video, FPS), model_file=options.face_model)
    return None


def _draw(options: Namespace, driving: Driving) -> None:
    seconds = min(options.seconds or 0.0, MAX_SECONDS)
    if not seconds:
        driving.end_within(round(MAX_SECONDS * FPS))
    picture = draw_driving(driving, PreviewOptions(seconds=seconds))
    try:
        options.preview.parent.mkdir(parents=True, exist_ok=True)
        picture.save(options.preview, format=picture_format(options.preview, "the preview"))
    except OSError as problem:
        raise MediaError(
            f"the preview {options.preview} cannot be written ({problem}); choose another place or free some disk space"
        ) from problem
