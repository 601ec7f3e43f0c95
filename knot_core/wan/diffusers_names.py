"""diffusers' names of Wan's modules, as `WanTransformer3DModel.save_pretrained` writes them, and Wan's own.

The table is the reverse of diffusers' conversion script (scripts/convert_wan_to_diffusers.py).
"""

import re
from collections.abc import Collection

_EMBEDDER = r"^condition_embedder\."
_RENAMED = tuple((re.compile(theirs), ours) for theirs, ours in (
    (_EMBEDDER + r"time_embedder\.linear_1\b", "time_embedding.0"),
    (_EMBEDDER + r"time_embedder\.linear_2\b", "time_embedding.2"),
    (_EMBEDDER + r"time_proj\b", "time_projection.1"),
    (_EMBEDDER + r"text_embedder\.linear_1\b", "text_embedding.0"),
    (_EMBEDDER + r"text_embedder\.linear_2\b", "text_embedding.2"),
    (_EMBEDDER + r"image_embedder\.norm1\b", "img_emb.proj.0"),
    (_EMBEDDER + r"image_embedder\.ff\.net\.0\.proj\b", "img_emb.proj.1"),
    (_EMBEDDER + r"image_embedder\.ff\.net\.2\b", "img_emb.proj.3"),
    (_EMBEDDER + r"image_embedder\.norm2\b", "img_emb.proj.4"),
    (r"^proj_out\b", "head.head"),
    (r"^scale_shift_table\b", "head.modulation"),
    (r"\bscale_shift_table\b", "modulation"),
    (r"\battn2\.add_([kv])_proj\b", r"cross_attn.\1_img"),
    (r"\battn2\.norm_added_k\b", "cross_attn.norm_k_img"),
    (r"\battn1\b", "self_attn"),
    (r"\battn2\b", "cross_attn"),
    (r"\bto_([qkv])\b", r"\1"),
    (r"\bto_out\.0\b", "o"),
    (r"\bffn\.net\.0\.proj\b", "ffn.0"),
    (r"\bffn\.net\.2\b", "ffn.2"),
    (r"^(blocks\.\d+)\.norm2\b", r"\1.norm3"),  # the norm before cross-attention: diffusers counts the other way
))  # fmt: skip
_MARK = "condition_embedder.time_proj.weight"


def are_diffusers_names(names: Collection[str]) -> bool:
    """Whether these are the tensors of a whole network under diffusers' names."""
    return _MARK in names


def wan_name(name: str) -> str:
    """Wan's own name of a module or tensor that diffusers calls `name`."""
    for theirs, ours in _RENAMED:
        name = theirs.sub(ours, name)
    return name
