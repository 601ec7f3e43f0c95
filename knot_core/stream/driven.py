"""What is given to move the portrait and cannot: refused by name, before anything is computed."""

from ..config import takes_controls
from ..driving import Driving
from ..errors import DrivingError
from .model import StreamDriving, StreamModel


def check_driving(model: StreamModel, driving: StreamDriving) -> None:
    """Of a driving that does not say what it gives, only its signal's shape is held against the model, at its use."""
    given = driving.given if isinstance(driving, Driving) else ()
    if not given:
        return
    adapter, what = model.config.adapter, " and ".join(given)
    if adapter is None:
        raise DrivingError(
            f"got {what}, but this model has no driving adapter: nothing but its prompt moves it; take Driving.none()"
        )
    if type(driving) is Driving and not takes_controls(adapter):
        raise DrivingError(
            f"got {what}, but this model hears speech through wav2vec2 and is moved by nothing else; take "
            "Driving.from_audio(audio, model, encoder=...)"
        )
