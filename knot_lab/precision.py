"""The precision of a training step."""

import torch

from knot_core.model_loading import native_dtype


def mixed_precision(device: str | torch.device) -> torch.autocast:
    """Matrices in bfloat16 where the device's arithmetic has it; else nothing is cast: emulated, a convolution takes
    hundreds of times longer than in float32.
    """
    device = torch.device(device)
    return torch.autocast(device.type, torch.bfloat16, enabled=native_dtype(device) == torch.bfloat16)


def compute_dtype(precision: str, device: torch.device) -> torch.dtype:
    """The dtype on a device for a recipe's precision, bfloat16 or float32."""
    return native_dtype(device) if precision == "bfloat16" else torch.float32
