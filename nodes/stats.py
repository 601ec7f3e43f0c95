"""The node that tells what a stream cost."""

from comfy_api.latest import io

from . import adapters
from .types import CATEGORY, KnotStats, node_schema


class Stats(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return node_schema(
            node_id="KnotForcingStreamStats",
            display_name="Knot Forcing Stream Stats",
            category=CATEGORY,
            description="Time per stage and memory in use, chunk by chunk.",
            search_aliases=["profiler", "benchmark", "fps", "timing", "speed", "VRAM", "memory usage"],
            inputs=[KnotStats.Input("stats", tooltip="The stats output of a node that streamed.")],
            outputs=[
                io.String.Output(
                    display_name="json",
                    tooltip="A summary, and one object per chunk: seconds by stage, frames a second, memory in MiB.",
                ),
                io.Image.Output(
                    display_name="plot",
                    tooltip="The same as a plot: seconds by stage, chunk by chunk, and memory in MiB.",
                ),
            ],
        )

    @classmethod
    def execute(cls, stats: adapters.StreamStats) -> io.NodeOutput:
        return io.NodeOutput(stats.to_json(), adapters.stats_plot(stats))
