"""How a CPU computes a training fastest: layout and number format, the latter tried out and not guessed."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from torch import nn
from ultralytics.utils.torch_utils import unwrap_model

FORMATS = ("float32", "bfloat16")
TRIED_PX = 64
_TRIALS = 5
_CLEARLY = 0.9  # bfloat16 rounds coarser, so it has to be a tenth faster to be taken


def cpu_format() -> str:
    """Return the number format in which this CPU trains convolutions faster: one of FORMATS.

    bfloat16 is emulated on most CPUs, and slower than float32 on some that multiply it natively.
    """
    flags = (getattr(torch.cpu, "_is_avx512_bf16_supported", None), getattr(torch.cpu, "_is_amx_tile_supported", None))
    if not any(flag() for flag in flags if flag is not None):
        return "float32"
    seconds = {name: _seconds(getattr(torch, name)) for name in FORMATS}
    return "bfloat16" if seconds["bfloat16"] < _CLEARLY * seconds["float32"] else "float32"


def _seconds(dtype: torch.dtype) -> float:
    """Time a convolution as YOLOv8 has them, forward and backward; the fastest of some trials."""
    conv = nn.Conv2d(64, 64, 3, padding=1, bias=False).to(dtype, memory_format=torch.channels_last)
    images = torch.zeros(4, 64, 40, 40, dtype=dtype).to(memory_format=torch.channels_last).requires_grad_()
    best = float("inf")
    for _ in range(_TRIALS):
        started = time.perf_counter()
        conv(images).sum().backward()
        best = min(best, time.perf_counter() - started)
    return best


def amp_works(network: nn.Module) -> bool:
    """Return whether a network gives numbers in half precision on its device.

    It stands in for ultralytics' own check, which asks a host for another network to try.
    """
    device = next(network.parameters()).device
    if device.type in {"cpu", "mps"}:
        return False
    return gives_numbers(getattr(unwrap_model(network), "student_model", network), torch.float16)


def gives_numbers(network: nn.Module, dtype: torch.dtype) -> bool:
    """Return whether a network's outputs are finite when it computes in a number format; it is not changed."""
    tried = copy.deepcopy(unwrap_model(network)).eval()
    device = next(tried.parameters()).device
    images = torch.linspace(0, 1, 3 * TRIED_PX * TRIED_PX, device=device).view(1, 3, TRIED_PX, TRIED_PX)
    with torch.no_grad(), torch.autocast(device.type, dtype):
        return all(bool(torch.isfinite(tensor).all()) for tensor in _tensors(tried(images)))


def _tensors(value: Any) -> Iterator[torch.Tensor]:
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, (dict, list, tuple)):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _tensors(item)


def in_bfloat16(network: nn.Module) -> None:
    """Let a network compute in bfloat16 and hand float32 to the loss, whose boxes need more than 8 bits of mantissa."""
    network._predict_once = partial(_predict, network._predict_once)


def _predict(predict: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    with torch.autocast("cpu", torch.bfloat16):
        outputs = predict(*args, **kwargs)
    return _to_float32(outputs)


def _to_float32(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return value.float() if value.is_floating_point() else value
    if isinstance(value, dict):
        return {key: _to_float32(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_to_float32(item) for item in value)
    return value
