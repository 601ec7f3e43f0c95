"""What live sessions use of the engine. No other file of this package imports it.

ComfyUI loads the pack under a name of its own, and there is no top-level `knot_core` there: the engine lies beside this
package under the same parent. Everywhere else both packages are top-level ones.
"""

if __package__.rpartition(".")[0]:
    from ..knot_core import (
        Anchor,
        Chunk,
        Driving,
        KnotError,
        MediaError,
        Model,
        Stream,
        StreamSettings,
        load_model,
        open_image,
        open_stream,
    )
    from ..knot_core.driving.controls import CONTROLS, RANGES
    from ..knot_core.geometry import first_pixel_frame
    from ..knot_core.media import fit_image
    from ..knot_core.model import ASSETS
else:
    from knot_core import (
        Anchor,
        Chunk,
        Driving,
        KnotError,
        MediaError,
        Model,
        Stream,
        StreamSettings,
        load_model,
        open_image,
        open_stream,
    )
    from knot_core.driving.controls import CONTROLS, RANGES
    from knot_core.geometry import first_pixel_frame
    from knot_core.media import fit_image
    from knot_core.model import ASSETS

__all__ = [
    "ASSETS",
    "CONTROLS",
    "RANGES",
    "Anchor",
    "Chunk",
    "Driving",
    "KnotError",
    "MediaError",
    "Model",
    "Stream",
    "StreamSettings",
    "first_pixel_frame",
    "fit_image",
    "load_model",
    "open_image",
    "open_stream",
]
