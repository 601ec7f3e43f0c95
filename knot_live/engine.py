"""What live sessions use of the engine. No other file of this package imports it.

ComfyUI loads the pack under a name of its own, and there is no top-level `knot_core` there: the engine lies beside this
package under the same parent. Everywhere else both packages are top-level ones.
"""

if __package__.rpartition(".")[0]:
    from ..knot_core import Chunk, Driving, Model, Stream, StreamSettings, load_model, open_stream
else:
    from knot_core import Chunk, Driving, Model, Stream, StreamSettings, load_model, open_stream

__all__ = ["Chunk", "Driving", "Model", "Stream", "StreamSettings", "load_model", "open_stream"]
