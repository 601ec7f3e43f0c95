"""The change that a LoRA file makes to one tensor of a network: low-rank products and their relatives, with and without
magnitude.

Shapes: O outputs, I inputs (of a convolution with its kernel), R rank, K kernel.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

# What must be there together to make a matrix; the first kind that is whole counts.
KINDS = (
    ("diff",),
    ("up", "down"),
    ("hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b"),
    ("lokr_w1", "lokr_w2"),
    ("lokr_w1", "lokr_w2_a", "lokr_w2_b"),
    ("lokr_w1_a", "lokr_w1_b", "lokr_w2"),
    ("lokr_w1_a", "lokr_w1_b", "lokr_w2_a", "lokr_w2_b"),
)
_RANKED = ("down", "hada_w1_b", "lokr_w2_b", "lokr_w1_b")  # whose first axis is the rank; the first that is there


@dataclass(frozen=True, kw_only=True, eq=False)
class WeightChange:
    """A change of one tensor, by the parts that its file holds.

    parts: "up" [O, R], "down" [R, I] (LoRA); "hada_w1_a" ... (LoHa); "lokr_w1" ... (LoKr); "diff" (a difference);
           "magnitude" (DoRA's, [O] or [O, 1]; [1, I] where it goes with the inputs); "alpha" is kept for the record.
    scale: what the matrix product is multiplied by.
    """

    parts: Mapping[str, Tensor]
    scale: float = 1.0

    @property
    def kind(self) -> tuple[str, ...] | None:
        """The parts that make its matrix; None if none do."""
        return next((kind for kind in KINDS if set(kind) <= set(self.parts)), None)

    @property
    def rank(self) -> int | None:
        """The rank of the low-rank product; None for a plain difference and for factors of full rank."""
        found = [self.parts[name] for name in _RANKED if name in self.parts]
        return found[0].shape[0] if found and found[0].dim() else None

    @property
    def is_zero(self) -> bool:
        """Whether it leaves every weight as it is: a factor of its product is zero, and it has no magnitude."""
        return "magnitude" not in self.parts and any(not self.parts[name].any() for name in self.kind)

    def applied(self, weight: Tensor, strength: float) -> Tensor:
        """weight + strength * (changed - weight), in the weight's dtype and shape.

        changed = weight + scale * product; with a magnitude m, changed = m * V / |V| where V is that sum and |V| is
        taken row by row (DoRA, arXiv 2402.09353).
        """
        change = self.scale * product(self.parts, self.kind, weight.device).to(weight.dtype).reshape(weight.shape)
        if "magnitude" in self.parts:
            magnitude = self.parts["magnitude"].to(weight.device, weight.dtype)
            change = with_magnitude(weight + change, magnitude) - weight
        return torch.add(weight, change, alpha=strength)


def product(parts: Mapping[str, Tensor], kind: tuple[str, ...], device: torch.device) -> Tensor:
    """The matrix that the parts of a kind make, unscaled, in float32; its shape may be flat: [O, I]."""
    by_name = {name: part.to(device, torch.float32) for name, part in parts.items()}
    if kind == ("diff",):
        return by_name["diff"]
    if kind == ("up", "down"):
        return _lora(by_name["up"], by_name["down"], by_name.get("mid"))
    return _loha(by_name) if kind[0].startswith("hada") else _lokr(by_name)


def with_magnitude(direction: Tensor, magnitude: Tensor) -> Tensor:
    """m * V / |V|, [O, ...]: the norm is taken over every axis but the one that the magnitude m, [O] or [1, I], belongs
    to.
    """
    by_outputs = magnitude.dim() < 2 or magnitude.shape[0] == direction.shape[0]
    shape = (-1, *[1] * (direction.dim() - 1)) if by_outputs else (1, -1, *[1] * (direction.dim() - 2))
    others = [axis for axis in range(direction.dim()) if axis != (0 if by_outputs else 1)]
    return magnitude.reshape(shape) * direction / direction.norm(dim=others, keepdim=True)


def _lora(up: Tensor, down: Tensor, mid: Tensor | None = None) -> Tensor:
    """up @ down (Hu et al., arXiv 2106.09685); LoCon's `mid` [R, R, *K] lies between the two."""
    up, down = up.flatten(1), down.flatten(1)
    return up @ down if mid is None else torch.einsum("o r, r s ..., s i -> o i ...", up, mid, down)


def _loha(parts: Mapping[str, Tensor]) -> Tensor:
    """(w1_a @ w1_b) * (w2_a @ w2_b), elementwise; of convolutions with a core t (LyCORIS, arXiv 2309.14859)."""
    factors = [_with_core(parts.get(f"hada_t{n}"), parts[f"hada_w{n}_a"], parts[f"hada_w{n}_b"]) for n in (1, 2)]
    return factors[0] * factors[1]


def _with_core(core: Tensor | None, a: Tensor, b: Tensor) -> Tensor:
    """a @ b; with a core t [R, R, *K] the sum over both ranks, a [R, O] and b [R, I]."""
    return a @ b if core is None else torch.einsum("r s ..., s i, r o -> o i ...", core, b, a)


def _lokr(parts: Mapping[str, Tensor]) -> Tensor:
    """kron(w1, w2), each whole or as a product; of convolutions w2 may have a core t2 (LyCORIS, arXiv 2309.14859)."""
    first = parts["lokr_w1"] if "lokr_w1" in parts else parts["lokr_w1_a"] @ parts["lokr_w1_b"]
    if "lokr_w2" in parts:
        second = parts["lokr_w2"]
    else:
        second = _with_core(parts.get("lokr_t2"), parts["lokr_w2_a"], parts["lokr_w2_b"])
    blocks = torch.einsum("p q, o i ... -> p o q i ...", first, second)
    return blocks.flatten(2, 3).flatten(0, 1)
