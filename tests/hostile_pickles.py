"""Checkpoints that an attacker could write, made opcode by opcode: nothing here can be saved with torch.save."""

from __future__ import annotations

import io
import os
import struct
import tarfile
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PROTOCOL = b"\x80\x02"


@dataclass(frozen=True)
class Raw:
    """Opcodes as they are."""

    code: bytes


def encode(value: Any) -> bytes:
    """Return the opcodes of a plain value."""
    return _ENCODERS[type(value)](value)


def _encode_int(value: int) -> bytes:
    data = value.to_bytes((value.bit_length() + 8) // 8, "little", signed=True)
    return b"\x8a" + bytes([len(data)]) + data


def _encode_str(value: str) -> bytes:
    data = value.encode("utf-8", "surrogatepass")
    return b"X" + struct.pack("<I", len(data)) + data


_ENCODERS = {
    Raw: lambda value: value.code,
    type(None): lambda value: b"N",
    bool: lambda value: b"\x88" if value else b"\x89",
    int: _encode_int,
    float: lambda value: b"G" + struct.pack(">d", value),
    str: _encode_str,
    tuple: lambda value: b"(" + b"".join(map(encode, value)) + b"t",
    list: lambda value: b"](" + b"".join(map(encode, value)) + b"e",
    dict: lambda value: b"}(" + b"".join(encode(k) + encode(v) for k, v in value.items()) + b"u",
}


def name(full: str) -> Raw:
    """Return a class or function by its name; the last dot divides module and name."""
    module, _, leaf = full.rpartition(".")
    return Raw(f"c{module}\n{leaf}\n".encode())


def stacked_name(module: str, leaf: str) -> Raw:
    """Return a name as protocol 4 writes it, whose second part may have dots."""
    return Raw(encode(module) + encode(leaf) + b"\x93")


def call(function: str | Raw, *args: Any) -> Raw:
    """Return a call, as `__reduce__` asks for one."""
    callee = function if isinstance(function, Raw) else name(function)
    return Raw(callee.code + encode(args) + b"R")


def built(target: Raw, state: Any) -> Raw:
    """Return an object that gets a state."""
    return Raw(target.code + encode(state) + b"b")


def new(cls: str, *args: Any) -> Raw:
    """Return a new object of a class."""
    return Raw(name(cls).code + encode(args) + b"\x81")


EMPTY = {"training": False, "_parameters": {}, "_buffers": {}, "_modules": {}}


def layer(cls: str, **state: Any) -> Raw:
    """Return a layer with these attributes."""
    return built(new(cls), {**EMPTY, **state})


def network(**state: Any) -> dict[str, Any]:
    """Return the contents of a checkpoint whose network has these attributes."""
    attributes = {"yaml": {}, "names": {0: "car"}, "task": "detect", **state}
    return {"ema": None, "model": layer("ultralytics.nn.tasks.DetectionModel", **attributes)}


def storage(key: str = "0", count: Any = 4, kind: str = "torch.FloatStorage") -> Raw:
    """Return a reference to numbers."""
    return Raw(encode(("storage", name(kind), key, "cpu", count)) + b"Q")


def tensor(of: Raw, size: Any, stride: Any, offset: Any = 0) -> Raw:
    """Return a tensor over numbers."""
    return call("torch._utils._rebuild_tensor_v2", of, offset, size, stride, False, call("collections.OrderedDict"))


def pickled(value: Any) -> bytes:
    """Return a whole pickle of a value."""
    return PROTOCOL + encode(value) + b"."


def zipped(pickle: bytes, *others: tuple[str, bytes], compression: int = zipfile.ZIP_STORED) -> bytes:
    """Return a file as torch.save writes it."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        archive.writestr("archive/data.pkl", pickle)
        for entry, data in others:
            archive.writestr(f"archive/{entry}", data)
    return buffer.getvalue()


def holding(value: Any, *others: tuple[str, bytes]) -> bytes:
    """Return a file that holds a value."""
    return zipped(pickled(value), *others)


def old_file(*pickles: bytes, tail: bytes = b"") -> bytes:
    """Return a file as torch.save wrote it before torch 1.6."""
    magic = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
    system = pickled({"protocol_version": 1001, "little_endian": True, "type_sizes": {}})
    return b"".join((magic, pickled(1001), system, *pickles, tail))


def overlapping() -> bytes:
    """Return an archive in which every storage is the same bytes."""
    data = b"\0" * 4_000_000
    whole = bytearray(zipped(pickled({}), *((f"data/{i}", data if i == 0 else b"") for i in range(200))))
    first = whole.index(b"PK\x01\x02")
    entries, place = [], first
    while whole[place : place + 4] == b"PK\x01\x02":
        lengths = struct.unpack_from("<3H", whole, place + 28)
        entries.append(place)
        place += 46 + sum(lengths)
    first_data = entries[1]
    for entry in entries[2:]:
        whole[entry + 16 : entry + 28] = whole[first_data + 16 : first_data + 28]  # CRC and sizes
        whole[entry + 42 : entry + 46] = whole[first_data + 42 : first_data + 46]  # place
    return bytes(whole)


def tar_of(entry: str) -> bytes:
    """Return a tar archive, the format of torch 0.1."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        archive.addfile(tarfile.TarInfo(entry), io.BytesIO())
    return buffer.getvalue()


def listed(code: bytes) -> Raw:
    """Return a list of all values that some opcodes leave."""
    return Raw(b"](" + code + b"e")


def doubled(times: int) -> Raw:
    """Return a list that holds the list before it twice, and so on: a billion values in a few bytes."""
    code = encode([1]) + b"q\x00"
    for i in range(times):
        code += b"](h" + bytes([i]) + b"h" + bytes([i]) + b"eq" + bytes([i + 1])
    return listed(code)


def doubled_tuple(times: int) -> Raw:
    """Return a tuple that holds the tuple before it twice, and so on: hashing it takes for ever."""
    return Raw(b")" + b"".join(b"q" + bytes([i]) + b"h" + bytes([i]) + b"\x86" for i in range(times)))


def nested(times: int) -> Raw:
    """Return a tuple in a tuple in a tuple."""
    return Raw(b")" + b"\x85" * times)


def nested_layers(times: int, *, twice: bool = False) -> Raw:
    """Return layers that each hold the one before, once or twice."""
    code = layer("torch.nn.modules.linear.Identity").code + b"r" + struct.pack("<I", 0)
    for i in range(times):
        inner = Raw(b"j" + struct.pack("<I", i))
        held = {"a": inner, "b": layer("torch.nn.modules.container.Sequential", _modules={"c": inner})}
        code += layer("torch.nn.modules.container.Sequential", _modules=held if twice else {"a": inner}).code
        code += b"r" + struct.pack("<I", i + 1)
    return listed(code)


def _codes(ran: str) -> dict[str, Any]:
    """Return values that would run code, open files or reach a network; `ran` is a folder that code would make."""
    conv = "torch.nn.modules.conv.Conv2d"
    head = name("ultralytics.nn.modules.head.Detect")
    return {
        "os.system": call("os.system", f"mkdir {ran}"),
        "posix.system": call("posix.system", f"mkdir {ran}"),
        "nt.system": call("nt.system", f"mkdir {ran}"),
        "builtins.eval": call("builtins.eval", f"__import__('os').mkdir({ran!r})"),
        "exec as Python 2 called it": call("__builtin__.exec", f"__import__('os').mkdir({ran!r})"),
        "builtins.open": call("builtins.open", ran, "w"),
        "subprocess.Popen": call("subprocess.Popen", ["mkdir", ran]),
        "pty.spawn": call("pty.spawn", "true"),
        "runpy.run_path": call("runpy.run_path", ran),
        "importlib.import_module": call("importlib.import_module", "antigravity"),
        "pickle.loads in a pickle": call("pickle.loads", "cos\nsystem\n(X\x04\x00\x00\x00trueetR."),
        "torch.load": call("torch.serialization.load", ran),
        "torch.hub.load": call("torch.hub.load", "a/b", "c"),
        "torch.hub.download": call("torch.hub.download_url_to_file", "http://127.0.0.1:9/x", ran),
        "torch.jit.load": call("torch.jit._serialization.load", ran),
        "torch.ops.load_library": call("torch._ops.ops.load_library", ran),
        "a compiled function of torch": call("torch.utils.cpp_extension.load_inline", "x", "int x;"),
        "numpy.load": call("numpy.load", ran),
        "ctypes": call("ctypes.CDLL", ran),
        "operator.attrgetter": call(call("operator.attrgetter", "system"), "os"),
        "functools.partial": call("functools.partial", name("os.system"), "true"),
        "a chain of getattr": call("builtins.getattr", call("builtins.getattr", head, "forward"), "__globals__"),
        "getattr of a class": call("builtins.getattr", head, "__init__"),
        "getattr of a text": call("builtins.getattr", "x", "format"),
        "getattr of a layer": call("builtins.getattr", layer(conv), "load_state_dict"),
        "a name with dots": stacked_name("torch", "os.system"),
        "a call of a name with dots": call(stacked_name("ultralytics.nn.tasks", "torch.hub.load"), "a/b"),
        "a name through a known module": call("ultralytics.nn.tasks.check_requirements", "x"),
        "what a known module imported": call("ultralytics.nn.modules.block.torch", "x"),
        "ultralytics' download": call("ultralytics.utils.downloads.safe_download", "http://127.0.0.1:9/x"),
        "ultralytics' checkpoint loader": call("ultralytics.nn.tasks.load_checkpoint", "other.pt"),
        "ultralytics' YAML": call("ultralytics.utils.YAML.load", ran),
        "YOLO()": call("ultralytics.models.yolo.model.YOLO", "other.pt"),
        "DetectionModel(file)": call("ultralytics.nn.tasks.DetectionModel", "x.yaml"),
        "a new DetectionModel(file)": new("ultralytics.nn.tasks.DetectionModel", "x.yaml"),
        "a world model(file)": call("ultralytics.nn.tasks.WorldModel", "yolov8s-world.yaml"),
        "torchvision's weights": call("ultralytics.nn.modules.block.TorchVision", "resnet18", "DEFAULT"),
        "torchvision.models": call("torchvision.models.resnet.resnet18", True),
        "CLIP": call("ultralytics.nn.text_model.CLIP", "ViT-B/32", "cpu"),
        "Conv2d called": call(conv, 3, 10**6, 10**3),
        "a new Conv2d": new(conv, 3, 10**6, 10**3),
        "Linear called": call("torch.nn.modules.linear.Linear", 10**5, 10**5),
        "Sequential called": call("torch.nn.modules.container.Sequential", layer(conv)),
        "a layer called": call(layer("torch.nn.modules.linear.Identity"), 1),
        "an object with arguments": Raw(name(conv).code + encode((1,)) + encode({"bias": True}) + b"\x92"),
        "a text instruction": Raw(b"(i" + b"os\nsystem\n"),
        "an object instruction": Raw(b"(" + name("os.system").code + encode("true") + b"o"),
        "an extension code": Raw(b"\x82\x01"),
        "copyreg": call("copyreg.__newobj_ex__", name(conv), (), {}),
        "a reconstructor": call("copyreg._reconstructor", name(conv), name("builtins.object"), None),
        "a persistent id that is a call": Raw(call("os.system", "true").code + b"Q"),
        "a persistent id of another kind": Raw(encode(("file", ran)) + b"Q"),
        "a persistent id that is text": Raw(encode(ran) + b"Q"),
        "a class's own __setstate__": built(new("ultralytics.nn.distill_model.DistillationModel"), {"feats_idx": [0]}),
        "a state of names that Python reserves": layer(conv, __class__=name("os.system")),
        "a state with slots": built(new(conv), (None, {"x": 1})),
        "a state that is no dictionary": built(new(conv), [1]),
        "a class as an attribute": layer(conv, forward=name("torch.nn.modules.container.Sequential")),
        "a function as an attribute": layer(conv, act=name("builtins.getattr")),
        "a layer in place of a method": layer(conv, forward=layer("torch.nn.modules.linear.Identity")),
        "a number in place of a method": network(parameters=5),
        "a hook": layer(conv, _forward_hooks={0: name("ultralytics.nn.tasks.DetectionModel")}),
        "a layer as a hook": layer(conv, _forward_hooks={0: layer("torch.nn.modules.linear.Identity")}),
        "a text for a layer": layer("torch.nn.modules.container.Sequential", _modules={"0": "x"}),
        "a layer without its parts": network(model=new("torch.nn.modules.container.Sequential")),
    }


def _sizes() -> dict[str, bytes]:
    """Return files that would take much memory or time."""
    numbers = ("data/0", b"\0" * 16)
    identity = "torch.nn.modules.linear.Identity"
    many = Raw(b"](" + (name(identity).code + b")\x81") * 30_000 + b"e")
    held = {f"b{i}": Raw(b"h\x07") for i in range(200)}
    wide = listed(tensor(storage(), (4,), (1,)).code + b"q\x07" + layer(identity, _buffers=held).code)
    alike = b"".join(encode((2**61 - 1) * i) + b"N" for i in range(1, 50_000))  # Python hashes all of them to 0
    return {
        "100,000 layers": holding(network(model=many)),
        "layers nested 500 times": holding(network(model=nested_layers(500))),
        "layers that double 60 times": holding(network(model=nested_layers(60, twice=True))),
        "a layer that holds itself": holding(
            {"model": built(Raw(new(identity).code + b"q\x00"), {**EMPTY, "_modules": {"x": Raw(b"h\x00")}})}
        ),
        "a list that holds itself": holding(Raw(b"]q\x00h\x00a")),
        "a billion values in few bytes": holding({"model": doubled(60)}),
        "tuples nested 20,000 times": holding({"model": nested(20_000)}),
        "a key that takes for ever to hash": holding({"model": Raw(b"}" + doubled_tuple(60).code + b"Ns")}),
        "a numpy type that takes for ever to hash": holding({"model": call("numpy.dtype", doubled_tuple(60))}),
        "a kind of resizing that takes for ever to hash": holding(
            {"model": call("torchvision.transforms.functional.InterpolationMode", doubled_tuple(60))}
        ),
        "an attribute that takes for ever to hash": holding(
            {
                "model": call(
                    "builtins.getattr", name("torchvision.transforms.functional.InterpolationMode"), doubled_tuple(60)
                )
            }
        ),
        "a tuple as a key": holding({(1, 2): 3}),
        "keys that collide": holding({"model": Raw(b"}(" + alike + b"u")}),
        "three million instructions": holding(Raw(b"(" + b"N" * 3_000_000 + b"t")),
        "a description of 20 MB": zipped(pickled("x" * 20_000_000)),
        "a text of 4 GB that is not there": zipped(PROTOCOL + b"X\xff\xff\xff\xff."),
        "a text of 16 EB that is not there": zipped(b"\x80\x04\x8d" + b"\xff" * 8 + b"."),
        "a number of 2 GB": zipped(PROTOCOL + b"\x8b\xff\xff\xff\x7f."),
        "a billion elements": holding(tensor(storage(count=10**9), (10**9,), (1,)), numbers),
        "fewer elements than the entry": holding(tensor(storage(count=1), (1,), (1,)), numbers),
        "a negative count": holding(tensor(storage(count=-1), (1,), (1,)), numbers),
        "a count that is text": holding(tensor(storage(count="4"), (4,), (1,)), numbers),
        "a stride of 0": holding(tensor(storage(), (10**9,), (0,)), numbers),
        "a tensor beyond its storage": holding(tensor(storage(), (4,), (3,)), numbers),
        "a negative offset": holding(tensor(storage(), (4,), (1,), offset=-4), numbers),
        "a negative stride": holding(tensor(storage(), (4,), (-1,)), numbers),
        "a negative size": holding(tensor(storage(), (-4,), (1,)), numbers),
        "sizes that multiply to 0 in 64 bits": holding(tensor(storage(), (2**32, 2**32), (0, 0)), numbers),
        "1,000 dimensions": holding(tensor(storage(), (1,) * 1000, (1,) * 1000), numbers),
        "more strides than sizes": holding(tensor(storage(), (4,), (1, 1)), numbers),
        "one storage in two forms": holding(
            [tensor(storage(), (4,), (1,)), tensor(storage(kind="torch.LongStorage", count=2), (2,), (1,))], numbers
        ),
        "a storage of an unknown kind": holding(storage(kind="torch.QInt8Storage"), numbers),
        "a storage outside the archive": holding(storage(key="../../etc/passwd"), numbers),
        "a storage that is not there": holding(storage(key="7"), numbers),
        "a tensor over text": holding(tensor(Raw(encode("x")), (1,), (1,))),
        "a tensor with hooks": holding(
            call("torch._utils._rebuild_tensor_v2", storage(), 0, (4,), (1,), True, {0: "x"}), numbers
        ),
        "one storage lent 1,000 times": holding([tensor(storage(), (4,), (1,)) for _ in range(1000)], numbers),
        "one buffer in 200 places": holding({"model": wide}, numbers),
        "a sparse tensor": holding(call("torch._utils._rebuild_sparse_tensor", 1, 2)),
        "a tensor of another class": holding(call("torch._utils._rebuild_wrapper_subclass", 1, 2)),
        "a numpy array": holding(call("numpy.core.multiarray._reconstruct", name("numpy.ndarray"), (0,), "b")),
        "a numpy type of objects": holding(call("numpy.dtype", "O8", False, True)),
        "a compressed bomb": zipped(pickled({}), ("data/0", b"\0" * 50_000_000), compression=zipfile.ZIP_DEFLATED),
        "a compressed description": zipped(pickled("x" * 8_000_000), compression=zipfile.ZIP_BZIP2),
        "entries over each other": overlapping(),
        "entries of one name": _with_twin(),
        "two descriptions": zipped(pickled({})).replace(b"archive/", b"archivf/") + zipped(pickled({})),
        "60,000 entries": zipped(pickled({}), *((f"data/{i}", b"") for i in range(60_000))),
        "an entry beyond the end": _with_longer_entry(),
        "another byte order": holding({}, ("byteorder", b"big")),
        "a byte order of 1 MB": holding({}, ("byteorder", b"little" * 200_000)),
        "a TorchScript archive": holding({}, ("constants.pkl", b"."), ("code/x.py", b"")),
        "an old file with a call": old_file(pickled(call("os.system", "true")), pickled([])),
        "an old file with a billion elements": old_file(pickled(_old_storage(10**9)), pickled(["0"])),
        "an old file with 1,000 storages of its size": old_file(
            pickled([_old_storage(2**18, key=str(i)) for i in range(1000)]), pickled([]), tail=b"\0" * 2**20
        ),
        "an old file without its storages": old_file(pickled(_old_storage(4)), pickled(["0"])),
        "an old file whose storage has another length": old_file(
            pickled(_old_storage(4)), pickled(["0"]), tail=struct.pack("<q", 10**9) + b"\0" * 16
        ),
        "an old file with the source of a class": old_file(
            pickled(Raw(encode(("module", name("os.system"), "x.py", "source")) + b"Q")), pickled([])
        ),
        "the tar format of torch 0.1": tar_of("pickle"),
        "an empty file": b"",
        "an empty archive": b"PK\x05\x06" + b"\0" * 18,
        "half an archive": holding({})[:60],
        "an empty pickle": zipped(b""),
        "a pickle without an end": zipped(PROTOCOL + b"N"),
        "a pickle of protocol 0": zipped(b"(dp0\n."),
        "a stack that is empty": zipped(PROTOCOL + b"R."),
        "a mark that is not there": zipped(PROTOCOL + b"t."),
        "a memo that is not there": zipped(PROTOCOL + b"h\x05."),
        "text that is no UTF-8": zipped(PROTOCOL + b"X\x02\x00\x00\x00\xff\xff."),
        "a name that is no UTF-8": zipped(PROTOCOL + b"c\xff\n\xff\n."),
        "a name of 1 MB with escape sequences": zipped(PROTOCOL + b"c\x1b[2J\n" + b"x" * 2**20 + b"\n."),
        "noise": os.urandom(4096),
        "noise behind a zip's start": b"PK\x03\x04" + os.urandom(4096),
    }


def _old_storage(count: int, key: str = "0") -> Raw:
    return Raw(encode(("storage", name("torch.FloatStorage"), key, "cpu", count, None)) + b"Q")


def _with_twin() -> bytes:
    return zipped(pickled({}), ("data/0", b"\0"), ("data/1", b"\0")).replace(b"archive/data/1", b"archive/data/0")


def _with_longer_entry() -> bytes:
    whole = bytearray(zipped(pickled({}), ("data/0", b"\0" * 16)))
    last = whole.rindex(b"PK\x01\x02")
    whole[last + 20 : last + 28] = struct.pack("<2I", 10**9, 10**9)
    return bytes(whole)


def write_all(folder: Path, ran: Path) -> dict[str, Path]:
    """Write every hostile file, and return the paths by what they are."""
    files = {f"code: {kind}": holding({"model": value}) for kind, value in _codes(str(ran)).items()}
    files |= {f"size: {kind}": data for kind, data in _sizes().items()}
    paths = {}
    for number, (kind, data) in enumerate(files.items()):
        paths[kind] = folder / f"{number}.pt"
        paths[kind].write_bytes(data)
    return paths | _special(folder)


def _special(folder: Path) -> dict[str, Path]:
    """Make what is no regular file."""
    paths = {f"file: {kind}": folder / f"{kind}.pt" for kind in ("folder", "pipe", "loop", "dangling", "huge")}
    paths["file: folder"].mkdir()
    os.mkfifo(paths["file: pipe"])
    paths["file: loop"].symlink_to(paths["file: loop"])
    paths["file: dangling"].symlink_to(folder / "nothing")
    with paths["file: huge"].open("wb") as stream:  # sparse: it takes no room
        stream.write(b"PK\x03\x04")
        stream.truncate(1 << 40)
    device = folder / "device.pt"
    device.symlink_to("/dev/zero")
    terminal = folder / "null.pt"
    terminal.symlink_to("/dev/null")
    missing = folder / "missing" / "x.pt"
    return paths | {
        "file: device": device,
        "file: null device": terminal,
        "file: missing folder": missing,
        "file: a name of 300 letters": folder / ("x" * 300 + ".pt"),
        "file: a name with a NUL": folder / "a\0b.pt",
        "file: in a file": folder / "0.pt" / "x.pt",
    }
