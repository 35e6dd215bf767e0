"""Read a pickle as data: its opcodes build plain values, and every name and call in it goes to a short list.

Python's own unpickler imports what a file names and calls what it likes, and torch's restricted one still calls the
classes that ultralytics registers with it. Here a name becomes a `Name`, which nothing can call; only `Rebuilder`
turns names and arguments into tensors and layers. Extension codes, text opcodes of protocol 0 and everything else
that `torch.save` never writes are refused.

Source: Lib/pickle.py and Lib/pickletools.py of CPython 3.11, protocols 2 to 5.
"""

from __future__ import annotations

import struct
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from slimdeploy.errors import CheckpointError
from slimdeploy.yolo import refusals

MOST_INSTRUCTIONS = 2_000_000  # the largest stock network takes 125,000, with its optimizer 400,000
LARGEST_KEY = 2**60  # integers below it are their own hash, so no file can make a dictionary slow
_STOP = ord(".")


class Builder(Protocol):
    """Knows the names that a file may hold."""

    def find(self, name: str) -> Any:
        """Return what stands for a dotted name, or raise CheckpointError."""

    def call(self, callee: Any, args: Any) -> Any:
        """Return what a stored call gives."""

    def new(self, callee: Any, args: Any) -> Any:
        """Return a new object of a stored class."""

    def build(self, target: Any, state: Any) -> None:
        """Give an object its state."""

    def storage(self, record: Any) -> Any:
        """Return the numbers that a tensor lies in."""


class Unpickler:
    """Interprets one or more pickles that follow each other.

    Args:
        data: the pickles.
        builder: what names, calls and storages stand for.
        path: the file, for messages.

    Attributes:
        position: where in `data` the next pickle begins.
    """

    def __init__(self, data: bytes, builder: Builder, path: object) -> None:
        self.position = 0
        self._data, self._builder, self._path = data, builder, path
        self._left = MOST_INSTRUCTIONS
        self._reset()

    def _reset(self) -> None:
        self._stack: list[Any] = []
        self._marks: list[list[Any]] = []
        self._memo: dict[int, Any] = {}

    def load(self) -> Any:
        """Return the value of the next pickle.

        Raises:
            CheckpointError: the pickle is damaged, longer than any network's, or holds what no checkpoint needs.
        """
        self._reset()
        try:
            self._run()
            return self._stack.pop()
        except (LookupError, ValueError, TypeError, OverflowError, struct.error) as error:
            raise refusals.damaged(self._path) from error

    def _run(self) -> None:
        while True:
            opcode = self._data[self.position]
            self.position += 1
            self._left -= 1
            if opcode == _STOP:
                return
            if self._left < 0:
                raise refusals.beyond(
                    self._path, "is described in too many steps", f"{MOST_INSTRUCTIONS:,} or fewer pickle instructions"
                )
            _OPCODES[opcode](self)

    def _take(self, count: int) -> bytes:
        taken = self._data[self.position : self.position + count]
        if len(taken) < count:
            raise ValueError("the pickle ends too early")
        self.position += count
        return taken

    def _unpack(self, form: str) -> Any:
        return struct.unpack(form, self._take(struct.calcsize(form)))[0]

    def _line(self) -> str:
        end = self._data.index(b"\n", self.position)
        line = self._data[self.position : end].decode("utf-8")
        self.position = end + 1
        return line

    def _push(self, value: Any) -> None:
        self._stack.append(value)

    def _text(self, form: str) -> None:
        self._push(self._take(self._unpack(form)).decode("utf-8", "surrogatepass"))

    def _bytes(self, form: str) -> None:
        self._push(self._take(self._unpack(form)))

    def _integer(self) -> None:
        self._push(int.from_bytes(self._take(self._unpack("<B")), "little", signed=True))

    def _mark(self) -> None:
        self._marks.append(self._stack)
        self._stack = []

    def _since_mark(self) -> list[Any]:
        items, self._stack = self._stack, self._marks.pop()
        return items

    def _tuple(self, count: int) -> None:
        if len(self._stack) < count:
            raise ValueError("the stack is too short")
        self._stack[-count:] = [tuple(self._stack[-count:])]

    def _put(self, place: int) -> None:
        self._memo[place] = self._stack[-1]

    def _extend(self, items: list[Any]) -> None:
        if type(self._stack[-1]) is not list:
            raise TypeError("items for something that is no list")
        self._stack[-1].extend(items)

    def _add(self, items: list[Any]) -> None:
        if type(self._stack[-1]) is not set:
            raise TypeError("items for something that is no set")
        self._stack[-1].update(map(require_scalar, items))

    def _set(self, items: list[Any]) -> None:
        target = self._stack[-1]
        if type(target) not in (dict, OrderedDict) or len(items) % 2:
            raise TypeError("pairs for something that is no dictionary")
        for key, value in zip(items[::2], items[1::2], strict=True):
            target[require_scalar(key)] = value

    def _global(self, module: Any, name: Any) -> None:
        if type(module) is not str or type(name) is not str:
            raise TypeError("a name that is no text")
        module = {"__builtin__": "builtins", "copy_reg": "copyreg"}.get(module, module)  # as Python 2 called them
        self._push(self._builder.find(f"{module}.{name}"))

    def _stack_global(self) -> None:
        name = self._stack.pop()
        self._global(self._stack.pop(), name)

    def _reduce(self) -> None:
        args = self._stack.pop()
        self._push(self._builder.call(self._stack.pop(), args))

    def _new(self) -> None:
        args = self._stack.pop()
        self._push(self._builder.new(self._stack.pop(), args))

    def _build(self) -> None:
        state = self._stack.pop()
        self._builder.build(self._stack[-1], state)

    def _unknown(self, opcode: int) -> None:
        raise CheckpointError(
            f"{self._path} holds the pickle instruction {opcode:#04x}, which torch.save does not write",
            wanted="a .pt file that ultralytics wrote",
            do="copy or train it again",
        )


def require_scalar(key: Any) -> Any:
    """Return a value that may be a key, or raise TypeError; hashing others can take for ever."""
    if key is None or type(key) in (str, bool, bytes) or (type(key) is int and abs(key) < LARGEST_KEY):
        return key
    raise TypeError(f"a {type(key).__name__} as a key")


def _opcodes() -> Mapping[int, Callable[[Unpickler], None]]:
    def refuse(opcode: int) -> Callable[[Unpickler], None]:
        return lambda reader: reader._unknown(opcode)

    return {opcode: refuse(opcode) for opcode in range(256)} | {ord(key): act for key, act in _KNOWN.items()}


_KNOWN: Mapping[str, Callable[[Unpickler], None]] = {
    "\x80": lambda reader: _require_protocol(reader._unpack("<B")),
    "\x95": lambda reader: reader._unpack("<Q"),  # a frame, whose length only helps to read ahead
    "N": lambda reader: reader._push(None),
    "\x88": lambda reader: reader._push(True),
    "\x89": lambda reader: reader._push(False),
    "J": lambda reader: reader._push(reader._unpack("<i")),
    "K": lambda reader: reader._push(reader._unpack("<B")),
    "M": lambda reader: reader._push(reader._unpack("<H")),
    "G": lambda reader: reader._push(reader._unpack(">d")),
    "\x8a": Unpickler._integer,
    "X": lambda reader: reader._text("<I"),
    "\x8c": lambda reader: reader._text("<B"),
    "\x8d": lambda reader: reader._text("<Q"),
    "B": lambda reader: reader._bytes("<I"),
    "C": lambda reader: reader._bytes("<B"),
    "U": lambda reader: reader._text("<B"),  # a str of Python 2
    "(": Unpickler._mark,
    ")": lambda reader: reader._push(()),
    "]": lambda reader: reader._push([]),
    "}": lambda reader: reader._push({}),
    "\x8f": lambda reader: reader._push(set()),
    "t": lambda reader: reader._push(tuple(reader._since_mark())),
    "\x85": lambda reader: reader._tuple(1),
    "\x86": lambda reader: reader._tuple(2),
    "\x87": lambda reader: reader._tuple(3),
    "a": lambda reader: reader._extend([reader._stack.pop()]),
    "e": lambda reader: reader._extend(reader._since_mark()),
    "\x90": lambda reader: reader._add(reader._since_mark()),
    "s": lambda reader: reader._set([reader._stack.pop(), reader._stack.pop()][::-1]),
    "u": lambda reader: reader._set(reader._since_mark()),
    "q": lambda reader: reader._put(reader._unpack("<B")),
    "r": lambda reader: reader._put(reader._unpack("<I")),
    "\x94": lambda reader: reader._put(len(reader._memo)),
    "h": lambda reader: reader._push(reader._memo[reader._unpack("<B")]),
    "j": lambda reader: reader._push(reader._memo[reader._unpack("<I")]),
    "c": lambda reader: reader._global(reader._line(), reader._line()),
    "\x93": Unpickler._stack_global,
    "Q": lambda reader: reader._push(reader._builder.storage(reader._stack.pop())),
    "R": Unpickler._reduce,
    "\x81": Unpickler._new,
    "b": Unpickler._build,
}


def _require_protocol(protocol: int) -> None:
    if not 2 <= protocol <= 5:
        raise ValueError(f"protocol {protocol}")


_OPCODES = _opcodes()
