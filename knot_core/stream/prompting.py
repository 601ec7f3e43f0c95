"""Prompts that change while a stream runs: each chunk under its own, from a plan in integers.

Shapes: B batch (of one), T text tokens, D text dim.
"""

from collections.abc import Iterator, Sequence

from torch import Tensor

from ..driving.prompts import PromptPlan
from ..errors import SettingsError
from .sampler import Chunk, Stream


def follow_prompts(stream: Stream, plan: PromptPlan, texts_BTD: Sequence[Tensor]) -> Iterator[Chunk]:
    """The stream's chunks under the plan's prompts; `texts_BTD`: each of them encoded, all of one shape."""
    shapes = {tuple(text.shape) for text in texts_BTD}
    if len(texts_BTD) != len(plan.starts) or len(shapes) != 1:
        raise SettingsError(
            f"got {len(texts_BTD)} encoded prompts of shapes {sorted(shapes)} for {len(plan.starts)} in the timeline; "
            "encode each of them, padded to one length"
        )
    set_before = None
    while True:
        weights = plan.weights_at(stream.plan.start, stream.settings.num_chunk_frames)
        if weights != set_before:
            stream.set_text(blend(texts_BTD, weights), recache=plan.recache and set_before is not None)
            set_before = weights
        chunk = next(stream, None)
        if chunk is None:
            return
        yield chunk


def blend(texts_BTD: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
    """sum_i w_i text_i, [B, T, D]; a prompt of weight 1 is returned unchanged."""
    used = [(text, weight) for text, weight in zip(texts_BTD, weights, strict=True) if weight > 0]
    if len(used) == 1:
        return used[0][0]
    return sum(weight * text.float() for text, weight in used)
