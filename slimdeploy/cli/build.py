"""`slimdeploy build`: the engine of a bundle, on this computer, by the code that builds it on a board."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from slimdeploy import errors
from slimdeploy._needs import needs
from slimdeploy.board.errors import AgentError
from slimdeploy.cli._shared import JsonOption, show

NAME = "build"


def command(
    bundle: Annotated[Path, typer.Argument(help="The bundle's folder.")],
    cache: Annotated[
        Path | None,
        typer.Option(help="Where engines lie; by default BUNDLE-engines."),
    ] = None,
    runtime: Annotated[str, typer.Option(help="tensorrt or onnxruntime; by default TensorRT where it is.")] = "",
    graph: Annotated[str, typer.Option(help="A graph of the bundle; by default the recommended one.")] = "",
    dla: Annotated[int, typer.Option(help="A DLA core to build an fp16 engine for.")] = -1,
    json: JsonOption = False,
) -> None:
    """Build the engine with the TensorRT that is here, 8.5 to 11, and hold it to the bundle's golden sample.

    A bundle whose target runs ONNX Runtime is opened by it and held to the sample. One for TensorRT needs it here, or
    --runtime onnxruntime.

    Example: slimdeploy build bundle
    """
    with needs("onnx"):
        from slimdeploy.board import build, check
    from slimdeploy.board.bundle import read_bundle
    from slimdeploy.board.machine import this_machine
    from slimdeploy.board.sessions import Engines

    place = bundle.absolute()
    engines = Engines(
        machine=this_machine(os.environ),
        cache=cache or place.with_name(f"{place.name}-engines"),
        runtime=runtime,
        dla_core=dla,
    )
    try:
        read = read_bundle(bundle, graph)
        built = build.build(read, engines)
        checked = check.check(read, engines)
    except AgentError as error:
        kind = getattr(errors, type(error).__name__, errors.SlimdeployError)
        raise kind(error.wrong, wanted=error.wanted, do=error.do) from error
    text = f"{build.as_text(built)}\n{check.as_text(checked)}"
    show({"schema": 1, "build": built, "check": checked}, text=text, as_json=json, complete=built["engine"] or "")
