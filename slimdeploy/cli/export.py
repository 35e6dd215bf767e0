"""`slimdeploy export`: ONNX, checked against PyTorch, in a bundle for a target."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any

import typer

from slimdeploy.cli._shared import ConfigOption, JsonOption, OutOption, TrustOption, require_data_set, show
from slimdeploy.configs import ExportConfig, build
from slimdeploy.errors import UsageError

NAME = "export"


def command(
    weights: Annotated[Path, typer.Argument(help="The checkpoint, a .pt.")],
    out: OutOption,
    target: Annotated[str, typer.Option(help="What the bundle is for: see slimdeploy targets.")] = "cpu",
    precision: Annotated[str | None, typer.Option(help="fp32, fp16 or int8; int8 needs --data.")] = None,
    imgsz: Annotated[str | None, typer.Option(help="Input in pixels: 640, or height x width as 384x640.")] = None,
    data: Annotated[
        Path | None, typer.Option(help="YAML of a data set to check and calibrate on; without it, scenes are rendered.")
    ] = None,
    batch: Annotated[int | None, typer.Option(help="Images a call.")] = None,
    dynamic_batch: Annotated[
        bool | None, typer.Option("--dynamic-batch", help="Let a call hold fewer images than --batch.")
    ] = None,
    opset: Annotated[int | None, typer.Option(help="ONNX opset; without it, what the target reads.")] = None,
    calibrator: Annotated[
        str | None, typer.Option(help="int8: minmax, percentile, entropy or mse sets the ranges.")
    ] = None,
    calibration_images: Annotated[
        int | None, typer.Option(help="int8: training images that the ranges are measured on.")
    ] = None,
    max_drop: Annotated[
        float | None, typer.Option(help="int8: points of mAP50-95 that it may lose on --data; layers return to float.")
    ] = None,
    max_p90_ms: Annotated[
        float | None, typer.Option(help="Milliseconds that nine in ten calls may take; the board refuses a slower one.")
    ] = None,
    max_power_mw: Annotated[
        float | None, typer.Option(help="Milliwatts that the board may draw; it refuses what draws more.")
    ] = None,
    dropins: Annotated[
        str | None, typer.Option("--with", help="Files for other pipelines: deepstream,triton,ros2.")
    ] = None,
    config: ConfigOption = None,
    trust: TrustOption = False,
    json: JsonOption = False,
) -> None:
    """Export to ONNX, compare the graph with PyTorch, and pack a bundle for a target.

    Example: slimdeploy export tuned.pt --target jetson --precision fp16 --data visdrone.yaml --out bundle
    """
    from slimdeploy.bundle.dropins import parse
    from slimdeploy.bundle.manifest import read_manifest
    from slimdeploy.bundle.next_step import next_step
    from slimdeploy.recipes import section
    from slimdeploy.stages.export import export
    from slimdeploy.targets import load_target

    flags = {
        "precision": precision,
        "imgsz": parse_imgsz(imgsz),
        "batch": batch,
        "dynamic_batch": dynamic_batch,
        "opset": opset,
        "calibrator": calibrator,
        "calibration_images": calibration_images,
        "max_drop": max_drop,
        "max_p90_ms": max_p90_ms,
        "max_power_mw": max_power_mw,
        "dropins": None if dropins is None else parse(dropins),
    }
    settings = build(ExportConfig, flags, section(config, NAME))
    if settings.precision != "int8":
        refuse_int8_settings(flags, settings.precision)
    board = load_target(target)
    require_data_set(data)
    folder = export(weights, board, settings, out, data=data, trust=trust)
    manifest = read_manifest(folder)
    then = next_step(board, manifest["graphs"][0], folder.as_posix())
    result = {"bundle": str(folder), **{k: manifest[k] for k in ("model", "graphs", "check", "target", "board")}}
    result |= {k: manifest[k] for k in ("calibration", "accuracy", "recommendation", "limits") if k in manifest}
    result["next"] = then
    show(result, text=as_text(folder, manifest, then), as_json=json, complete=folder)


def refuse_int8_settings(flags: dict[str, Any], precision: str) -> None:
    """Raise UsageError for a flag that only int8 heeds; a recipe may hold such settings for its other precisions."""
    for name in ("calibrator", "calibration_images", "max_drop"):
        if flags[name] is not None:
            raise UsageError(
                f"--{name.replace('_', '-')} with {precision}", wanted="--precision int8, which alone heeds it"
            )


def parse_imgsz(text: str | None) -> tuple[int, int] | None:
    """Return height and width from `640` or `384x640`.

    Raises:
        UsageError: the text is neither.
    """
    if text is None:
        return None
    found = re.fullmatch(r"([0-9]{1,6})(?:[xX]([0-9]{1,6}))?", text.strip())
    if not found:
        raise UsageError(f"an input size of {text!r}", wanted="one side such as 640, or height x width such as 384x640")
    height = int(found[1])
    return height, int(found[2] or height)


def as_text(folder: Path, manifest: dict[str, Any], then: str) -> str:
    """Return an exported bundle as lines for a person; the last one says what to do next."""
    from slimdeploy.bundle.dropins import DROPINS
    from slimdeploy.bundle.trtcheck import KINDS

    model, check = manifest["model"], manifest["check"]
    size_mb = manifest["files"][model["file"]]["size_bytes"] / 1e6
    shape = "x".join(str(side) for side in manifest["input"]["shape"])
    lines = [
        f"bundle: {folder}, for {manifest['target']['title']}",
        f"model:  {model['file']}, {size_mb:.2f} MB, {model['precision']}, opset {model['opset']}, input {shape}",
        *(f"beside: {_beside(graph, manifest)}" for graph in manifest["graphs"][1:]),
        f"size:   {model['parameters']:,} parameters, {model['macs'] / 1e9:.3f} GMACs",
        f"check:  {'differs from' if model['precision'] == 'int8' else 'agrees with'} PyTorch on {check['images']} "
        f"{check['source']}; {_differences(check)}",
    ]
    if "calibration" in manifest:
        known = manifest["calibration"]
        lines.append(
            f"int8:   ranges by {known['calibrator']} over {known['images']} training images of {known['data']}"
        )
        lines.append(f"mAP:    {_accuracy(manifest.get('accuracy'))}")
    if model["float_nodes"]:
        lines.append(f"float:  {len(model['float_nodes'])} nodes stay float: {_reasons(model['float_nodes'])}")
    if manifest["target"]["kind"] in KINDS:
        lines.append(f"parser: {_parser(manifest['board'])}")
    if "recommendation" in manifest:
        lines.append(f"advice: {_advice(manifest['recommendation'])}")
    if "limits" in manifest:
        lines.append(f"limits: {limits_text(manifest['limits'])}; the board refuses what exceeds them")
    if dropins := [name for name in DROPINS if any(file.startswith(f"{name}/") for file in manifest["files"])]:
        lines.append(f"with:   {', '.join(dropins)}")
    if "build" in manifest["board"]:
        lines.append("board:  not run on a board yet")
    return "\n".join([*lines, then])


def limits_text(limits: dict[str, float]) -> str:
    """Return what a board's check holds the engine to, for a person."""
    units = {"p90_ms": ("p90", "ms"), "power_mw": ("power", "mW")}
    return ", ".join(f"{units[name][0]} {limit:g} {units[name][1]}" for name, limit in limits.items())


def _differences(check: dict[str, Any]) -> str:
    score = f"the largest change of a score {check['score_change']:.2g}"
    if not check["boxes"]:
        return score
    told = [f"over {check['boxes']} boxes, the largest shift is {check['box_shift_px']:.2g} px"]
    if "keypoint_shift_px" in check:
        told.append(f"of a keypoint {check['keypoint_shift_px']:.2g} px")
    if "mask_change" in check:
        told.append(f"the largest change of a mask {check['mask_change']:.2g}")
    return f"{', '.join(told)} and {score}"


def _beside(graph: dict[str, Any], manifest: dict[str, Any]) -> str:
    size_mb = manifest["files"][graph["file"]]["size_bytes"] / 1e6
    return (
        f"{graph['file']}, {size_mb:.2f} MB, {graph['precision']} with a {graph['body']} body, opset {graph['opset']}"
    )


def _advice(told: dict[str, Any]) -> str:
    if not told["measured"]:
        return str(told["why"])
    return f"run {told['file']}; {told['why']} with {told['runtime']} on {told['machine']}"


def _accuracy(told: dict[str, Any] | None) -> str:
    if told is None:
        return "what int8 loses was not measured; --max-drop 0.5 does, and holds it to half a point"
    drops = ", ".join(
        f"{file} {told['map50_95'][file]:.4f} (loses {drop:.2f} points{_interval(told, file)})"
        for file, drop in told["drop_points"].items()
    )
    line = f"fp32 {told['fp32_map50_95']:.4f}, {drops} on {told['images']} images of {told['data']}"
    if not told["returned"]:
        return line
    return (
        f"{line}; {len(told['returned'])} layers returned to float with {told['returned_share']:.1%} of the arithmetic"
    )


def _interval(accuracy: dict[str, Any], file: str) -> str:
    """Return the interval of a loss, which manifests of older versions lack."""
    ends = accuracy.get("drop_interval", {}).get(file)
    return "" if ends is None else " [{:.2f}, {:.2f}]".format(*ends)


def _parser(board: dict[str, str]) -> str:
    if board["nvidia_parser"] == "accepted":
        return f"NVIDIA's ({board['nvidia_parser_version']}) accepts the graph"
    return f"NVIDIA's was not run: {board.get('nvidia_parser_reason', 'no reason is known')}"


def _reasons(nodes: list[dict[str, str]]) -> str:
    whys = [one["why"] for one in nodes]
    return ", ".join(f"{why} ({whys.count(why)})" for why in dict.fromkeys(whys))
