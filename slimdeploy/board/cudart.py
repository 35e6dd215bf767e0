"""The dozen calls of CUDA's runtime library that an engine needs, through ctypes: no pycuda, no cuda-python."""

from __future__ import annotations

import contextlib
import ctypes
from typing import Sequence

from slimdeploy.board.errors import DeviceError, MissingDependency

LIBRARIES = (
    "libcudart.so",
    "libcudart.so.13",
    "libcudart.so.12",
    "libcudart.so.11.0",
    "libcudart.so.10.2",
    "/usr/local/cuda/lib64/libcudart.so",
)
_TO_DEVICE, _TO_HOST = 1, 2
_COMPUTE_MAJOR, _COMPUTE_MINOR, _PROCESSORS = 75, 76, 16  # cudaDeviceAttr


class Cudart:
    """CUDA's runtime library.

    Args:
        libraries: names to try in turn; none takes `LIBRARIES`.

    Raises:
        MissingDependency: none of them is there.
    """

    def __init__(self, libraries: Sequence[str] = ()) -> None:
        for name in libraries or LIBRARIES:
            with contextlib.suppress(OSError):
                self._library = ctypes.CDLL(name)
                break
        else:
            raise MissingDependency("no libcudart was found", wanted="CUDA's runtime library", do="install CUDA")
        self._library.cudaGetErrorString.restype = ctypes.c_char_p

    def device_memory(self, size_bytes: int) -> int:
        """Return the address of new memory on the GPU."""
        return self._new("cudaMalloc", ctypes.c_size_t(size_bytes))

    def pinned_memory(self, size_bytes: int) -> int:
        """Return the address of new host memory that copies run from without a stop."""
        return self._new("cudaHostAlloc", ctypes.c_size_t(size_bytes), ctypes.c_uint(0))

    def stream(self) -> int:
        """Return a new stream."""
        return self._new("cudaStreamCreate")

    def free(self, *, device: Sequence[int] = (), pinned: Sequence[int] = (), stream: int = 0) -> None:
        """Give back what was made."""
        for address in device:
            self._call("cudaFree", ctypes.c_void_p(address))
        for address in pinned:
            self._call("cudaFreeHost", ctypes.c_void_p(address))
        if stream:
            self._call("cudaStreamDestroy", ctypes.c_void_p(stream))

    def copy_in(self, device: int, host: int, size_bytes: int, stream: int) -> None:
        """Start a copy from host memory to the GPU."""
        self._copy(device, host, size_bytes, _TO_DEVICE, stream)

    def copy_out(self, host: int, device: int, size_bytes: int, stream: int) -> None:
        """Start a copy from the GPU to host memory."""
        self._copy(host, device, size_bytes, _TO_HOST, stream)

    def wait(self, stream: int) -> None:
        """Return when everything in a stream is done; other threads of Python run meanwhile."""
        self._call("cudaStreamSynchronize", ctypes.c_void_p(stream))

    def gpu(self) -> str:
        """Return what an engine is built for: compute capability and number of multiprocessors, such as "sm87x8"."""
        major, minor, processors = (self._attribute(one) for one in (_COMPUTE_MAJOR, _COMPUTE_MINOR, _PROCESSORS))
        return f"sm{major}{minor}x{processors}"

    def _attribute(self, which: int) -> int:
        value = ctypes.c_int()
        self._call("cudaDeviceGetAttribute", ctypes.byref(value), ctypes.c_int(which), ctypes.c_int(0))
        return value.value

    def _new(self, call: str, *arguments: object) -> int:
        made = ctypes.c_void_p()
        self._call(call, ctypes.byref(made), *arguments)
        return int(made.value or 0)

    def _copy(self, to: int, source: int, size_bytes: int, kind: int, stream: int) -> None:
        self._call(
            "cudaMemcpyAsync",
            ctypes.c_void_p(to),
            ctypes.c_void_p(source),
            ctypes.c_size_t(size_bytes),
            ctypes.c_int(kind),
            ctypes.c_void_p(stream),
        )

    def _call(self, name: str, *arguments: object) -> None:
        code = getattr(self._library, name)(*arguments)
        if code:
            told = (self._library.cudaGetErrorString(code) or b"").decode("utf-8", "replace")
            raise DeviceError(f"{name} failed with CUDA's error {code}: {told}", do="check the driver and free memory")
