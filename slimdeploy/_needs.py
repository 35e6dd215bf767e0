"""Say which extra a verb needs, instead of a traceback from deep inside an import."""

from __future__ import annotations

import contextlib
import importlib.util
from collections.abc import Iterator

from slimdeploy.errors import MissingDependency

_ONNX = ("onnx", "onnxruntime", "onnxsim", "numpy", "cv2", "PIL", "yaml", "faster_coco_eval")
_REPORT = ("matplotlib", "jinja2", "numpy")
_TRAIN = (
    "torch",
    "torchvision",
    "ultralytics",
    "torch_pruning",
    "cloudpickle",
    "filelock",
    *dict.fromkeys(_ONNX + _REPORT),
)
_SEARCH = ("optuna", "sqlalchemy", "fsspec", "tomli_w", *_TRAIN)
# The modules that each extra of pyproject.toml brings; `train` brings `onnx` and `report` with it, `search` `train`.
EXTRAS = {
    "train": _TRAIN,
    "onnx": _ONNX,
    "openvino": ("openvino", *_ONNX),
    "report": _REPORT,
    "ship": ("zstandard",),
    "search": _SEARCH,
    "ray": ("ray", *_SEARCH),
    "postgres": ("psycopg",),
    "trtcheck": ("tensorrt_rtx_bindings", "onnxruntime_ep_nv_tensorrt_rtx"),
}


def pip_line(extra: str) -> str:
    """Return the command that installs an extra."""
    return f'pip install "slimdeploy[{extra}]"'


def is_installed(module: str) -> bool:
    """Return whether a module could be imported, without importing it."""
    return importlib.util.find_spec(module) is not None


def require(extra: str) -> None:
    """Ask for a whole extra before work begins that would need it much later; imports nothing.

    Args:
        extra: the extra of pyproject.toml.

    Raises:
        MissingDependency: a module of that extra is not installed.
    """
    for module in EXTRAS[extra]:
        if not is_installed(module):
            raise _missing(module, extra)


def _missing(module: str, extra: str) -> MissingDependency:
    return MissingDependency(
        f"this needs the package {module!r}, which is not installed",
        wanted=f"the extra {extra!r}",
        do=pip_line(extra),
    )


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
        raise _missing(error.name.split(".")[0], extra) from error
    except ImportError as error:
        if "cannot open shared object file" not in str(error):
            raise
        raise MissingDependency(
            f"a package of the extra {extra!r} lacks a library of the system: {error}",
            do="apt install libgl1 libglib2.0-0, which is what opencv-python takes from Debian and Ubuntu",
        ) from error
