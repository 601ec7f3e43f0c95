"""Speech, expression and idle motion, as signals per latent frame."""

from .timeline import Driving

__all__ = ["Driving"]
