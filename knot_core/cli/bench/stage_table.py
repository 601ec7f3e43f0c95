"""The engine's figures for the eye."""

from typing import Any


def table(figures: dict[str, Any]) -> str:
    """Stages, then what they come to."""
    lines = [f"{'stage':<12}{'ms p50':>12}{'ms p95':>12}{'share':>9}"]
    whole = figures["ms"]["chunk"]["p50"]
    lines += [
        f"{stage:<12}{taken['p50']:>12.2f}{taken['p95']:>12.2f}{taken['p50'] / whole:>9.1%}"
        for stage, taken in figures["ms"].items()
    ]
    return "\n".join([*lines, "", *_sentences(figures)])


def _sentences(figures: dict[str, Any]) -> list[str]:
    work, rate = figures["tflop_per_chunk"], figures["tflops_per_s"]
    lines = [
        f"{figures['model']}, {figures['layers']} layers, {figures['width']}x{figures['height']}, {figures['dtype']}, "
        f"{figures['device']}",
        f"{figures['fps']:.4g} pixel frames a second, {figures['realtime_factor']:.3g} of real time; first chunk "
        f"{figures['first_chunk_ms']:.4g} ms ({figures['first_chunk_cold_ms']:.4g} ms in a new process)",
        f"{work['network']:.4g} TFLOP a chunk at {rate['network']:.4g} TFLOP/s, {rate['network_share_of_matmul']:.0%} "
        f"of a plain matrix product's {figures['matmul_tflops_per_s']:.4g}",
        f"memory at most {figures['peak_memory']['mib']} MiB ({figures['peak_memory']['of']})",
    ]
    if plain := figures.get("plain"):
        lines.append(
            f"a plain loop without cache and knot takes {plain['times_as_long']:.3g} times as long a chunk, "
            f"{plain['network_times_as_long']:.3g} times without decoding ({plain['pairs']} turns each); it computes "
            f"{plain['times_the_operations']:.3g} times as much"
        )
    if scaled := figures.get("scaled_to_full_depth"):
        lines.append(
            f"at {scaled['layers']} layers, computed and not measured: {scaled['chunk_ms']:.4g} ms a chunk, "
            f"{scaled['fps']:.3g} pixel frames a second"
        )
    return lines
