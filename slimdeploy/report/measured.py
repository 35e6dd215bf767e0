"""What was measured beside the bare session, as text: whole frames, a camera's rate, power, layers."""

from __future__ import annotations

from slimdeploy.bench import layers as of_layers
from slimdeploy.bench import stats
from slimdeploy.records import LayerTime, Offered, Power, Report, Row

SLOWEST = 10  # layers shown


def measured_lines(report: Report) -> list[list[str]]:
    """Return blocks of lines, one a kind of measurement, each with its heading; [] where none was asked for."""
    kinds = (
        ("End to end, from decoded frame to final boxes:", _end_to_end),
        ("Frames offered at a camera's rate, end to end, from capture to result:", _offered),
        ("Energy for each image, idle taken off:", _power),
        ("Time by layer, from the runtime's own profiler:", _layers),
    )
    blocks = []
    for heading, lines_of in kinds:
        lines = [f"  {line}" for row in report.rows for line in lines_of(row)]
        if lines:
            blocks.append([heading, *lines])
    return blocks


def _end_to_end(row: Row) -> list[str]:
    if row.end_to_end is None:
        return []
    found = stats.summary(row.end_to_end)
    size = row.end_to_end.environment.get("frame_size_px")
    frames = f", frames of {size[1]}x{size[0]}" if size else ""
    return [
        f"{row.name}: p50 {_ms(found.p50_s)}, p90 {_ms(found.p90_s)}, p99 {_ms(found.p99_s)}, "
        f"{found.images_per_s:.1f} images/s{frames}"
    ]


def _offered(row: Row) -> list[str]:
    return [] if row.offered is None else [f"{row.name}: {offered_text(row.offered)}"]


def offered_text(offered: Offered) -> str:
    """Return what became of the frames of a camera in a sentence."""
    p50_s, p90_s, p99_s = (stats.percentile(offered.latency_s, share) for share in (0.5, 0.9, 0.99))
    return (
        f"{offered.frames} frames at {offered.fps:g} a second, {offered.dropped} dropped, {offered.late} late; "
        f"p50 {_ms(p50_s)}, p90 {_ms(p90_s)}, p99 {_ms(p99_s)}"
    )


def _power(row: Row) -> list[str]:
    return [f"{row.name}: {power_text(power)}" for power in row.power]


def power_text(power: Power) -> str:
    """Return what a meter said in a sentence; figures of different rails must not be compared."""
    rails = ", ".join(power.rails)
    return (
        f"{power.joules_an_image:.4f} J ({power.mean_w:.2f} W, {power.idle_w:.2f} W idle; {power.meter}, rails {rails})"
    )


def _layers(row: Row) -> list[str]:
    return [f"{row.name}: {line}" for line in layer_lines(row.layers)] if row.layers else []


def layer_lines(layers: tuple[LayerTime, ...]) -> list[str]:
    """Return the shares of the operators, then the slowest layers, each with its width."""
    total_s = sum(layer.seconds for layer in layers)
    operators = [f"{name} {share:.0%} ({count})" for name, count, share in of_layers.by_operator(layers)]
    slowest = sorted(layers, key=lambda layer: -layer.seconds)[:SLOWEST]
    return [
        f"{_ms(total_s)} in {len(layers)} layers: {', '.join(operators)}",
        *(
            f"{layer.seconds / total_s:6.1%}  {_ms(layer.seconds)}  {layer.operator}  {layer.name}{_width(layer)}"
            for layer in slowest
            if total_s
        ),
    ]


def _width(layer: LayerTime) -> str:
    return "" if layer.width is None else f", {layer.width} channels"


def _ms(seconds: float) -> str:
    return f"{1000 * seconds:.2f} ms"
