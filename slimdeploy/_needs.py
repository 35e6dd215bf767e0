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


def pip_line(extra: str) -> str:
    """Return the command that installs an extra."""
    return f'pip install "slimdeploy[{extra}]"'


@contextlib.contextmanager
def needs(extra: str) -> Iterator[None]:
    """Turn a failed import into the pip line that mends it.

    Args:
        extra: the extra of pyproject.toml that brings what is imported inside the block.

    Raises:
        MissingDependency: a module of that extra is not installed, or the system lacks a library that it loads.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        if error.name is None or error.name.split(".")[0] not in EXTRAS[extra]:
            raise
        raise MissingDependency(
            f"this needs the package {error.name.split('.')[0]!r}, which is not installed",
            wanted=f"the extra {extra!r}",
            do=pip_line(extra),
        ) from error
    except ImportError as error:
        if "cannot open shared object file" not in str(error):
            raise
        raise MissingDependency(
            f"a package of the extra {extra!r} lacks a library of the system: {error}",
            do="apt install libgl1 libglib2.0-0, which is what opencv-python takes from Debian and Ubuntu",
        ) from error
