"""Change a valid input: bytes, values of JSON, tokens of TOML and YAML, fields of protobuf, entries of archives."""

from __future__ import annotations

import copy
import io
import json
import re
import tarfile
import zipfile
from collections.abc import Callable
from random import Random
from typing import Any

CONTROLS = (
    "\x1b[31m",
    "\0",
    "\n",
    "\u202e",
    "\u2028",
    "\r\n[Service]\nExecStartPre=/bin/x",
    "\ud800".encode("utf-8", "ignore").decode(),
)
NASTY: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 5, 1.5, -0.0, 1e308, float("nan"), float("inf"), float("-inf"), 2**31, 2**63, 2**64,
    10**400, "", "x", "0", "nan", "../../outside", "/etc/passwd", "a" * 5000, [], [[]], {}, [{}], {"x": {}}, [None],
    ["x"], [1e999], "\u0663", "-1", "1e999", "a.b", *CONTROLS,
)  # fmt: skip
TOKENS = (
    b"null", b"[]", b"{}", b"[{}]", b"nan", b"inf", b"-inf", b"1e999", b"1" * 5000, b"-1", b"0", b"1.5", b"true", b'""',
    b"'x'", b"[" * 5000, b"{" * 200, b"2001-99-99", b"!!int x", b"&a [*a]", b"*a", b"\xff",
    b"!!python/object:os.system x",
    b"\x00", b"\x1b[31m", "\u202e".encode(), b"a.b", b"../../x", b"~", b".inf", b"0x1F", b"1979-05-27T07:32:00Z",
    b".".join([b"a"] * 500), b'"\\u0000"', b'"\\u202e"', "\u0663".encode(), b"0: a, x: b", b"9223372036854775808",
)  # fmt: skip
_TOKEN = re.compile(rb"[A-Za-z0-9_./+:-]+|\"[^\"\n]*\"|'[^'\n]*'|[\[\]{}=,#]")
Mutation = Callable[[bytes, Random], bytes]


def flip_bits(raw: bytes, chance: Random) -> bytes:
    """Flip one to eight bits."""
    changed = bytearray(raw)
    for _ in range(chance.choice((1, 1, 2, 8))):
        if changed:
            changed[chance.randrange(len(changed))] ^= 1 << chance.randrange(8)
    return bytes(changed)


def cut(raw: bytes, chance: Random) -> bytes:
    """End somewhere."""
    return raw[: chance.randrange(len(raw) + 1)]


def insert(raw: bytes, chance: Random) -> bytes:
    """Put a nasty token anywhere."""
    at = chance.randrange(len(raw) + 1)
    return raw[:at] + chance.choice(TOKENS) + raw[at:]


def delete(raw: bytes, chance: Random) -> bytes:
    """Take a piece out."""
    start = chance.randrange(len(raw) + 1)
    return raw[:start] + raw[start + chance.choice((1, 2, 8, 64, 512)) :]


def double(raw: bytes, chance: Random) -> bytes:
    """Repeat a piece."""
    start = chance.randrange(len(raw) + 1)
    piece = raw[start : start + chance.choice((1, 8, 64, 512))]
    return raw[:start] + piece * chance.choice((2, 3, 50)) + raw[start + len(piece) :]


BYTES: tuple[Mutation, ...] = (flip_bits, cut, insert, delete, double)


def replace_token(raw: bytes, chance: Random) -> bytes:
    """Put a nasty token in the place of one that is there."""
    found = list(_TOKEN.finditer(raw))
    if not found:
        return insert(raw, chance)
    one = chance.choice(found)
    return raw[: one.start()] + chance.choice(TOKENS) + raw[one.end() :]


def move_line(raw: bytes, chance: Random) -> bytes:
    """Put a line somewhere else, or twice."""
    lines = raw.split(b"\n")
    line = lines.pop(chance.randrange(len(lines)))
    for _ in range(chance.choice((1, 1, 2))):
        lines.insert(chance.randrange(len(lines) + 1), line)
    return b"\n".join(lines)


TEXT: tuple[Mutation, ...] = (replace_token, replace_token, replace_token, move_line, *BYTES)


def change_json(raw: bytes, chance: Random) -> bytes:
    """Replace, remove, rename or repeat a value of a JSON document; one that cannot be parsed is changed as text."""
    try:
        document = json.loads(raw)
    except (ValueError, RecursionError):
        return replace_token(raw, chance)
    for _ in range(chance.choice((1, 1, 1, 2, 3))):
        document = _changed(document, chance)
    return json.dumps(document).encode()


def _changed(document: Any, chance: Random) -> Any:
    """Walk down to a value by chance and change it there."""
    if not isinstance(document, (dict, list)) or not document or chance.random() < 0.08:
        return copy.deepcopy(chance.choice(NASTY))
    key = chance.choice(list(document) if isinstance(document, dict) else range(len(document)))
    if isinstance(document[key], (dict, list)) and chance.random() < 0.75:
        document[key] = _changed(document[key], chance)
        return document
    what = chance.randrange(10)
    if what == 0:
        del document[key]
    elif what == 1 and isinstance(document, dict):
        document[chance.choice(("", "x", "../x", "a\x1bb", "a\nb", "schema"))] = document.pop(key)
    elif what == 2 and isinstance(document, list):
        document *= chance.choice((0, 2, 40))
    else:
        document[key] = copy.deepcopy(chance.choice(NASTY))
    return document


def deepen(raw: bytes, chance: Random) -> bytes:
    """Nest what is there, deeper than a stack."""
    levels = chance.choice((3, 500, 100_000))
    return b"[" * levels + raw + b"]" * chance.choice((levels, 0))


JSON: tuple[Mutation, ...] = (*[change_json] * 8, *TEXT, deepen)


def change_onnx(raw: bytes, chance: Random) -> bytes:
    """Change a field of the graph as onnx's own classes see it."""
    import onnx

    model = onnx.ModelProto()
    try:
        model.ParseFromString(raw)
    except Exception:  # noqa: BLE001 - whatever protobuf says of an input that was changed before
        return flip_bits(raw, chance)
    for _ in range(chance.choice((1, 1, 2, 3))):
        _change_message(model, chance)
    try:
        return model.SerializeToString()
    except Exception:  # noqa: BLE001 - text that is no UTF-8
        return flip_bits(raw, chance)


def _change_message(message: Any, chance: Random) -> None:
    """Walk down to a field by chance and change it there."""
    fields = [field for field, _ in message.ListFields()]
    if not fields:
        return
    field = chance.choice(fields)
    value = getattr(message, field.name)
    repeated = hasattr(value, "append") or hasattr(value, "add")
    if repeated and len(value) and chance.random() < 0.25:
        _change_list(message, field.name, value, chance)
    elif repeated and len(value):
        place = chance.randrange(len(value))
        if hasattr(value, "add"):
            _change_message(value[place], chance)
        else:
            value[place] = _other(value[place], chance)
    elif hasattr(value, "ListFields"):
        _change_message(value, chance)
    elif chance.random() < 0.2:
        message.ClearField(field.name)
    elif not repeated:
        setattr(message, field.name, _other(value, chance))


def _change_list(message: Any, name: str, value: Any, chance: Random) -> None:
    place = chance.randrange(len(value))
    what = chance.randrange(4)
    if what == 0:
        message.ClearField(name)
    elif what == 1:
        del value[place]
    elif what == 2 and hasattr(value, "add"):
        value.add().CopyFrom(value[place])
    elif hasattr(value, "add") and len(value) > 1:  # names of one in another: this is how cycles come about
        other = value[chance.randrange(len(value))]
        for key in ("input", "output"):
            if hasattr(other, key) and len(getattr(other, key)) and len(getattr(value[place], key)):
                getattr(value[place], key)[0] = chance.choice(list(getattr(other, chance.choice(("input", "output")))))
    elif not hasattr(value, "add"):
        value.append(value[place])


def _other(value: Any, chance: Random) -> Any:
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return (
            chance.choice((0, 1, -1, 2, 7, value + 1, value * 2, 2**31 - 1, -(2**31), 9999))
            if abs(value) < 2**31
            else 0
        )
    if isinstance(value, float):
        return chance.choice((0.0, -1.0, float("nan"), float("inf"), 3e38))
    if isinstance(value, bytes):
        return chance.choice(BYTES)(value, chance)
    texts = (
        "",
        "x",
        "[5]",
        "[1e999, 32]",
        "{0: 'a'}",
        "{0: 'a', 1: 'a'}",
        "[" * 5000,
        "-1",
        "1" * 5000,
        "images",
        "w0",
        "c0",
        *CONTROLS,
    )
    return chance.choice(texts) if chance.random() < 0.7 else cut(value.encode(), chance).decode("utf-8", "ignore")


ONNX: tuple[Mutation, ...] = (*[change_onnx] * 6, *BYTES)


def change_zip(raw: bytes, chance: Random) -> bytes:
    """Change an entry of a zip: its bytes, its name, or whether it is there."""
    made = io.BytesIO()
    try:
        with zipfile.ZipFile(io.BytesIO(raw)) as packed, zipfile.ZipFile(made, "w") as changed:
            names = packed.namelist()
            chosen = chance.choice(names)
            for name in names:
                content, new = packed.read(name), name
                if name == chosen:
                    what = chance.randrange(4)
                    content = chance.choice(BYTES)(content, chance) if what else content
                    new = chance.choice((name, name, "../x", f"{name}\n", "x")) if what == 0 else name
                changed.writestr(zipfile.ZipInfo(new), content)
                if name == chosen and chance.random() < 0.1:
                    changed.writestr(zipfile.ZipInfo(f"{new}2"), content)
    except Exception:  # noqa: BLE001 - what is no zip any more is changed as bytes
        return flip_bits(raw, chance)
    return made.getvalue()


ZIP: tuple[Mutation, ...] = (*[change_zip] * 4, *BYTES)


def change_tar(raw: bytes, chance: Random) -> bytes:
    """Change an entry of a tar: its name, its kind, its headers, its bytes."""
    made = io.BytesIO()
    try:
        with tarfile.open(fileobj=io.BytesIO(raw)) as packed:
            entries = [(one, packed.extractfile(one).read() if one.isreg() else b"") for one in packed.getmembers()]  # type: ignore[union-attr]
        chosen = chance.randrange(len(entries))
        with tarfile.open(
            fileobj=made, mode="w", format=chance.choice((tarfile.USTAR_FORMAT, tarfile.PAX_FORMAT))
        ) as out:
            for place, (entry, content) in enumerate(entries):
                body = content
                if place == chosen:
                    entry, body = _changed_entry(entry, content, chance)
                out.addfile(entry, io.BytesIO(body))
    except Exception:  # noqa: BLE001 - what is no tar any more is changed as bytes
        return flip_bits(raw, chance)
    return made.getvalue()


def _changed_entry(entry: tarfile.TarInfo, content: bytes, chance: Random) -> tuple[tarfile.TarInfo, bytes]:
    what = chance.randrange(6)
    if what == 0:
        entry.name = chance.choice(("../../outside", "/outside", "a\nb", "x" * 300, "a/./b", "a//b", ".."))
    elif what == 1:
        entry.type = chance.choice(
            (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.DIRTYPE, tarfile.CHRTYPE)
        )
        entry.linkname = chance.choice(("../../outside", "/etc", "manifest.json"))
    elif what == 2:
        entry.pax_headers = {
            chance.choice(("GNU.sparse.map", "size", "path", "GNU.sparse.size")): chance.choice(("x", "-1", "9" * 50))
        }
    elif what == 3:
        content = (
            change_json(content, chance) if entry.name.endswith(".json") else chance.choice(BYTES)(content, chance)
        )
        entry.size = len(content)
    elif what == 4:
        entry.size = chance.choice((0, 1, len(content) * 2, 2**33 - 1))
    else:
        content = chance.choice(BYTES)(content, chance)
        entry.size = len(content)
    return entry, content


TAR: tuple[Mutation, ...] = (*[change_tar] * 4, *BYTES)


def mutate(raw: bytes, kinds: tuple[Mutation, ...], chance: Random) -> bytes:
    """Return an input after one to three mutations; now and then unchanged, so that the seeds are read, too."""
    for _ in range(chance.choice((0, 1, 1, 1, 1, 1, 1, 2, 2, 3))):
        raw = chance.choice(kinds)(raw, chance)
    return raw
