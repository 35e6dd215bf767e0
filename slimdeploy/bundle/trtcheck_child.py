"""The process that holds NVIDIA's parser. Started by `trtcheck.check_graph`, never by hand.

It gets a graph's path, the path to write its answer to as JSON, and perhaps `--build`. It ends with 0 only once the
answer is written.
"""

from __future__ import annotations

import ctypes
import importlib.util
import json
import sys
from pathlib import Path
from typing import Any

LIBRARIES = "onnxruntime_ep_nv_tensorrt_rtx"  # NVIDIA's package that holds the two shared libraries below
PRELOADED = ("libtensorrt_rtx.so.*", "libtensorrt_onnxparser_rtx.so.*")  # the second looks for symbols of the first


def load() -> Any:
    """Return NVIDIA's bindings, their libraries loaded from where pip put them: no LD_LIBRARY_PATH, no links."""
    spec = importlib.util.find_spec(LIBRARIES)
    assert spec is not None
    assert spec.origin is not None
    for pattern in PRELOADED:
        # Importing that package anywhere leaves links to the libraries beside them.
        (library,) = (path for path in Path(spec.origin).parent.glob(pattern) if not path.is_symlink())
        ctypes.CDLL(str(library), ctypes.RTLD_GLOBAL)
    import tensorrt_rtx_bindings

    return tensorrt_rtx_bindings


def examine(graph: str, *, build: bool) -> dict[str, Any]:
    """Return the parser's name, whether an engine was built, and every complaint; none means that it accepts."""
    trt = load()
    logged: list[str] = []

    class Logger(trt.ILogger):  # type: ignore[misc, name-defined] # the bindings have no types
        def log(self, severity: Any, message: str) -> None:
            if severity in (trt.ILogger.Severity.ERROR, trt.ILogger.Severity.INTERNAL_ERROR):
                logged.append(message)

    logger = Logger()
    builder = trt.Builder(logger)
    network = builder.create_network(0)
    parser = trt.OnnxParser(network, logger)
    parsed, built = parser.parse_from_file(graph), False
    complaints = [_complaint(parser.get_error(i)) for i in range(parser.num_errors)]
    if parsed and build and not complaints:
        built = builder.build_serialized_network(network, builder.create_builder_config()) is not None
    if not complaints and not (parsed and (built or not build)):
        complaints = [_untold("PARSE_FAILED" if not parsed else "BUILD_FAILED", logged)]
    return {"parser": f"TensorRT-RTX {trt.__version__}", "built": built, "complaints": complaints}


def _complaint(error: Any) -> dict[str, str]:
    return {
        "code": error.code().name,
        "node": error.node_name(),
        "operator": error.node_operator(),
        "description": error.desc(),
    }


def _untold(code: str, logged: list[str]) -> dict[str, str]:
    """A failure that the parser's list does not name: the log does."""
    return {"code": code, "node": "", "operator": "", "description": " | ".join(logged) or "no message"}


def main() -> None:
    """Examine the graph that the command line names, and write the answer."""
    graph, answer, *flags = sys.argv[1:]
    found = examine(graph, build="--build" in flags)
    Path(answer).write_text(json.dumps(found), encoding="utf-8")


if __name__ == "__main__":
    main()
