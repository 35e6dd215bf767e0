"""The stock scales of a network's family, such as yolov8n beside yolov8s."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from torch import nn
from ultralytics.utils import LOGGER

from slimdeploy.yolo import heads

SCALES = "nsmlx"  # from small to large
_FAMILY = re.compile(rf"(yolov8|yolo11|yolo26)([{SCALES}])(|-seg|-pose|-obb|-cls|-p2|-p6)")


def smaller_scales(module: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Give the name and a network with new weights of each scale below a stock network's own, the largest first.

    Only the name of the network's YAML is read, and ultralytics' own file of that name is opened: what a checkpoint
    says of its layers is never built. Gives nothing where the name is not that of a stock network.
    """
    description: Any = getattr(module, "yaml", None)
    name = str(description.get("yaml_file", "")) if isinstance(description, dict) else ""
    family = _FAMILY.fullmatch(Path(name).stem)
    if family is None or not heads.known(module):
        return
    prefix, scale, kind = family.groups()
    LOGGER.setLevel(logging.ERROR)
    for smaller in reversed(SCALES[: SCALES.index(scale)]):
        stem = f"{prefix}{smaller}{kind}"
        stock = type(module)(f"{stem}.yaml", nc=len(module.names), verbose=False)
        stock.task, stock.names = module.task, module.names
        yield stem, stock.eval()
