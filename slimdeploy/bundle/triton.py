"""A Triton model repository: the graph for its ONNX Runtime backend, and the configuration beside it.

An engine would fit one GPU and one TensorRT; Triton on a board takes one in place of the graph, as the comment in the
configuration says.

Source: docs/user_guide/model_configuration.md of github.com/triton-inference-server/server, e1db8a60.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from slimdeploy.backends.protocol import INPUT, OUTPUT
from slimdeploy.bundle.dropin import Model, write_text
from slimdeploy.bundle.labels import labels_text

VERSION = "1"
LABELS = "labels.txt"


def write(model: Model, folder: Path) -> None:
    """Write `<name>/config.pbtxt`, `<name>/labels.txt` and `<name>/1/model.onnx`."""
    repository = folder / model.identifier
    (repository / VERSION).mkdir(parents=True)
    shutil.copyfile(model.path, repository / VERSION / "model.onnx")
    write_text(repository / LABELS, labels_text(model.classes))
    write_text(repository / "config.pbtxt", config(model))


def config(model: Model) -> str:
    """Return the model's configuration, in protobuf's text form.

    A static batch is part of the dimensions and `max_batch_size` is 0; a dynamic one is not.
    """
    batched = [] if model.dynamic_batch else [model.batch]
    taken = _dims([*batched, 3, *model.imgsz])
    given = _dims([*batched, 4 + len(model.classes), model.anchors])
    return f"""\
# With an engine that was built on this machine: platform "tensorrt_plan", and 1/model.plan in place of 1/model.onnx.
name: "{model.identifier}"
platform: "onnxruntime_onnx"
max_batch_size: {model.batch if model.dynamic_batch else 0}
input [
  {{
    name: "{INPUT}"
    data_type: TYPE_FP32
    dims: {taken}
  }}
]
output [
  {{
    name: "{OUTPUT}"
    data_type: TYPE_FP32
    dims: {given}
    label_filename: "{LABELS}"
  }}
]
model_warmup [
  {{
    name: "zeros"
    batch_size: {1 if model.dynamic_batch else 0}
    inputs {{
      key: "{INPUT}"
      value: {{
        data_type: TYPE_FP32
        dims: {taken}
        zero_data: true
      }}
    }}
  }}
]
"""


def _dims(sizes: Sequence[int]) -> str:
    return f"[ {', '.join(str(size) for size in sizes)} ]"
