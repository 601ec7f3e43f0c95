"""Mistakes of the user, each with one sentence: what was got, what is wanted, what to do."""


class KnotError(ValueError):
    """Base of every error that a user can cause and mend."""


class SettingsError(KnotError):
    """A setting out of range, or a combination that cannot work."""


class CheckpointError(KnotError):
    """A weights file that is damaged, incomplete, or of another model."""


class MediaError(KnotError):
    """A picture, sound or video that cannot be read or written."""


class DrivingError(KnotError):
    """A driving signal that does not fit the model or the stream."""


class StateError(KnotError):
    """A saved stream that cannot go on here."""
