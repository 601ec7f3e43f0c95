"""Copying from the CPU to a device without waiting for it."""

import torch
from torch import Tensor


def to_device(tensor: Tensor, device: torch.device | str, dtype: torch.dtype | None = None) -> Tensor:
    """`tensor.to(device, dtype)` of any shape [...], without making the host wait: a copy from pageable memory to CUDA
    blocks until all work queued on the device is done; a copy from pinned memory is queued behind it.
    """
    device = torch.device(device)
    if tensor.device.type == "cpu" and device.type == "cuda":
        return tensor.to(dtype or tensor.dtype).pin_memory().to(device, non_blocking=True)
    return tensor.to(device, dtype)
