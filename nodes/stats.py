"""The node that tells what a stream cost."""

from comfy_api.latest import io

from . import adapters
from .types import CATEGORY, KnotStats


class Stats(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="KnotForcingStreamStats",
            display_name="Stream Stats",
            category=CATEGORY,
            description="Where the time went and how much memory was held, chunk by chunk.",
            inputs=[KnotStats.Input("stats", tooltip="From a node that streamed.")],
            outputs=[
                io.String.Output(display_name="json", tooltip="A summary, and one object per chunk: seconds by stage, "
                                                              "frames against real time, memory in MiB."),
                io.Image.Output(display_name="plot", tooltip="The same as a picture: time by stage, and memory."),
            ],
        )

    @classmethod
    def execute(cls, stats: adapters.StreamStats) -> io.NodeOutput:
        return io.NodeOutput(adapters.stats_json(stats), adapters.stats_plot(stats))
