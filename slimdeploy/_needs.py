"""Say which extra a verb needs, instead of a traceback from deep inside an import."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from slimdeploy.errors import MissingDependency

EXTRAS = {
    "train": ("torch", "torchvision", "ultralytics", "torch_pruning", "cv2", "yaml"),
    "onnx": ("onnx", "onnxruntime", "onnxsim", "numpy", "cv2", "yaml", "faster_coco_eval"),
    "openvino": ("openvino",),
    "report": ("matplotlib", "jinja2", "numpy"),
}


@contextlib.contextmanager
def needs(extra: str) -> Iterator[None]:
    """Turn a failed import into the pip line that mends it.

    Args:
        extra: the extra of pyproject.toml that brings what is imported inside the block.

    Raises:
        MissingDependency: a module of that extra is not installed.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        if error.name is None or error.name.split(".")[0] not in EXTRAS[extra]:
            raise
        raise MissingDependency(
            f"this needs the package {error.name.split('.')[0]!r}, which is not installed",
            wanted=f"the extra {extra!r}",
            do=f'pip install "slimdeploy[{extra}]"',
        ) from error
