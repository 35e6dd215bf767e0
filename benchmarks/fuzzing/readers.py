"""Every reader of files, requests and addresses: its valid inputs, how they are changed, and what reads them.

A reader gets the changed bytes and a folder of its own. Heavy packages are imported by the readers that need them.
"""

from __future__ import annotations

import contextlib
import functools
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fuzzing import seeds
from fuzzing.mutations import BYTES, JSON, ONNX, TAR, TEXT, ZIP, Mutation

Read = Callable[[bytes, Path], Any]  # the changed input, and an empty folder


@dataclass(frozen=True, slots=True, kw_only=True)
class Reader:
    """One reader.

    Attributes:
        name: as shown.
        seeds: gives its valid inputs.
        kinds: how they are changed.
        read: reads a changed one.
        share: how often it is tried, against the others.
        limit_s: longest time for an input.
        programs: programs that it may start.
    """

    name: str
    seeds: Callable[[], tuple[bytes, ...]]
    kinds: tuple[Mutation, ...]
    read: Read
    share: float = 1.0
    limit_s: float = 20.0
    programs: tuple[str, ...] = ()


def _file(raw: bytes, folder: Path, name: str) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(raw)
    return path


def _recipe(raw: bytes, folder: Path) -> None:
    from slimdeploy.recipes import read_recipe, section

    path = _file(raw, folder, "recipe.toml")
    read_recipe(path)
    for name in ("train", "export", "bench"):
        section(path, name)


def _target(raw: bytes, folder: Path) -> None:
    from slimdeploy.bundle.next_step import build_command
    from slimdeploy.targets import alignment_for, read_target

    target = read_target(_file(raw, folder, "mine.toml"))
    alignment_for(target)
    build_command(target.tensorrt, "fp16", "model.onnx")


def _search(raw: bytes, folder: Path) -> None:
    from slimdeploy.search.spec import read_spec

    _file(seeds.RECIPE, folder, "recipe.toml")
    _ = read_spec(_file(raw, folder, "search.toml")).identity


def _search_recipe(raw: bytes, folder: Path) -> None:
    from slimdeploy.search.spec import read_spec

    _file(raw, folder, "recipe.toml")
    read_spec(_file(seeds.SEARCH, folder, "search.toml"))


def _search_folder(raw: bytes, folder: Path) -> None:
    from slimdeploy.search.folder import open_folder

    _file(raw, folder, "search.json")
    open_folder(folder)


def _fleet(raw: bytes, folder: Path) -> None:
    from slimdeploy.devices.fleet import read_fleet

    read_fleet(_file(raw, folder, "fleet.toml"))


def _address(raw: bytes, _folder: Path) -> None:
    from slimdeploy.devices.address import parse_address

    parse_address(raw.decode("utf-8", "surrogateescape"))


def _plan(raw: bytes, folder: Path) -> None:
    from slimdeploy.cli._plan_text import as_text
    from slimdeploy.stages.plan import read_plan

    as_text(read_plan(_file(raw, folder, "plan.json")))


def _table(raw: bytes, folder: Path) -> None:
    from slimdeploy.latency.table import read_table

    table = read_table(_file(raw, folder, "table.json"))
    for kind, times in table.layers.items():
        with contextlib.suppress(KeyError):
            table._grids[kind].at(times[0].inputs, times[-1].outputs)
    _ = (table.noise, table.fit, table.source)


def _run_record(raw: bytes, folder: Path) -> None:
    from slimdeploy.lineage import read_run, told_of

    _file(raw, folder, "run.json")
    told_of(folder / "run.json")
    read_run(folder)


def _report(part: str, raw: bytes, folder: Path, *, page: bool = False) -> None:
    """Put a changed file into a recipe's folder, and show the report in every form."""
    from slimdeploy.report.build import report_from
    from slimdeploy.report.document import as_document
    from slimdeploy.report.gate import Bounds, check, failure
    from slimdeploy.report.html import as_html
    from slimdeploy.report.markdown import as_markdown
    from slimdeploy.report.terminal import as_text

    run = folder / "run"
    seeds.write_run(run)
    _file(raw, run, part)
    report = report_from([run], across_machines=True)
    json.dumps(as_document(report), default=str)
    shown = [as_text(report), as_markdown(report), *([as_html(report)] if page else [])]
    controls = {sign for text in shown for sign in text if not sign.isprintable()} - {"\n", "\u00a0"}
    controls = {sign for sign in controls if not sign.isspace()} | controls & {"\r", "\t", "\u2028", "\u2029", "\x85"}
    if controls:
        raise AssertionError(f"control characters in a report: {sorted(map(ascii, controls))[:5]}")
    failure(check(report, Bounds(min_map=0.1, max_p50_ms=1.0, max_drop=1.0)))


def _matches(raw: bytes, folder: Path) -> None:
    from slimdeploy.accuracy.bootstrap import paired_bootstrap
    from slimdeploy.accuracy.matches import load

    found = list(load(_file(raw, folder, "matches.npz")).values())
    for one in found[:2]:
        _ = one.right.sum()
    if len(found) > 1 and found[0].truths == found[1].truths:
        paired_bootstrap(found[0], found[1], resamples=20)


def _manifest(raw: bytes, folder: Path) -> None:
    from slimdeploy.board.bundle import read_bundle
    from slimdeploy.board.errors import AgentError
    from slimdeploy.bundle.manifest import read_manifest

    _file(raw, folder, "manifest.json")
    with contextlib.suppress(AgentError):
        bundle = read_bundle(folder)
        _ = (bundle.imgsz, bundle.batch, bundle.classes, bundle.precision, bundle.model)
    read_manifest(folder)


def _golden(raw: bytes, folder: Path) -> None:
    from slimdeploy.board.bundle import Bundle
    from slimdeploy.board.golden import read_golden
    from slimdeploy.board.whole import sha256_file

    expected, image = (
        _file(raw, folder, "golden/expected.json"),
        _file(seeds.golden_image(), folder, "golden/input.npy"),
    )
    files = {f"golden/{path.name}": {"sha256": sha256_file(path), "size_bytes": 1} for path in (expected, image)}
    manifest = {"model": {"task": "detect", "file": "m.onnx", "classes": ["a"]}, "input": {"shape": [1, 3, 32, 32]}}
    read_golden(Bundle(folder=folder, manifest={**manifest, "files": files}))


def _archive(raw: bytes, folder: Path) -> None:
    from slimdeploy.bundle.archive import opened

    with opened(_file(raw, folder, "bundle.tar.zst")):
        pass


def _tar_in_archive(raw: bytes, folder: Path) -> None:
    import zstandard

    _archive(zstandard.ZstdCompressor(level=1).compress(raw), folder)


def _cached_stage(raw: bytes, folder: Path) -> None:
    from slimdeploy.search.store import UrlStore

    store = UrlStore((folder / "store").as_uri())
    _file(raw, folder / "store" / "export", "key.tar")
    store.fetch("export/key", folder / "stage")


def _data_set(raw: bytes, folder: Path) -> None:
    from slimdeploy.data.dataset import read_dataset

    seeds.write_data(folder)
    read_dataset(_file(raw, folder, "data.yaml")).as_input()


def _labels(raw: bytes, folder: Path) -> None:
    from slimdeploy.data.dataset import read_dataset

    seeds.write_data(folder)
    _file(raw, folder, "labels/val/0.txt")
    read_dataset(folder / "data.yaml").as_input()


def _image_list(raw: bytes, folder: Path) -> None:
    from slimdeploy.data.dataset import read_dataset

    seeds.write_data(folder)
    _file(raw, folder, "val.txt")
    _file(seeds.DATA.replace(b"val: images/val", b"val: val.txt"), folder, "data.yaml")
    read_dataset(folder / "data.yaml").as_input()


def _visdrone(raw: bytes, folder: Path) -> None:
    from slimdeploy.data.visdrone import read_rows

    read_rows(_file(raw, folder, "0.txt"))


def _onnx(raw: bytes, folder: Path) -> None:
    from slimdeploy.backends.artifacts import read_artifact, require_finite_weights

    require_finite_weights(read_artifact(_file(raw, folder, "model.onnx")))


def _checkpoint(raw: bytes, folder: Path) -> None:
    from slimdeploy.yolo.checkpoint import load

    load(_file(raw, folder, "model.pt"))


def _trtexec(raw: bytes, _folder: Path) -> None:
    from slimdeploy.backends.trtexec import parse
    from slimdeploy.files import parse_json

    parse(parse_json(raw, where="profile"), parse_json(seeds.TRTEXEC, where="layers"))


def _request(raw: bytes, folder: Path) -> None:
    from slimdeploy.board.requests import parse
    from slimdeploy.board.session import Session, answer

    verb = ""
    with contextlib.suppress(Exception):
        verb, _ = parse(raw)
    if verb in ("time", "bench", "stage", "install_service", "remove_service", "look", "activate", "rollback"):
        parse(raw)  # what they start is not read here
        return
    with contextlib.ExitStack() as closing:
        json.dumps(answer(Session(str(folder / "root"), closing), raw))


def _answer(raw: bytes, _folder: Path) -> None:
    from slimdeploy.devices.answers import ANSWERS, parse
    from slimdeploy.errors import DeviceError

    for do in ANSWERS:
        try:
            parse(raw, do, {"name": "a" * 64})
        except ValueError as error:  # the session makes a DeviceError of it
            DeviceError(str(error))


def _tegrastats(raw: bytes, _folder: Path) -> None:
    import math

    from slimdeploy.board.telemetry import parse_tegrastats

    sample = parse_tegrastats(raw.decode("utf-8", "replace"))
    figures = [*sample.rails_mw.values(), *sample.temperatures_c.values()]
    if not all(map(math.isfinite, figures)):
        raise AssertionError(f"a reading that is no number: {figures}")


def _board_files(raw: bytes, folder: Path) -> None:
    import math

    from slimdeploy.board import telemetry

    parts = raw.split(b"\n---\n")
    for place, part in zip(seeds.BOARD_FILES, parts, strict=False):
        _file(part, folder, place)
    figures = [
        *telemetry.read_rails_mw(folder).values(), *telemetry.read_temperatures_c(folder).values(),
        telemetry.read_gpu_load_percent(folder) or 0.0,
    ]  # fmt: skip
    telemetry.read_gpu_clock(folder)
    telemetry.read_power_mode(folder)
    if not all(map(math.isfinite, figures)):
        raise AssertionError(f"a reading that is no number: {figures}")


def _unit(raw: bytes, folder: Path) -> None:
    from slimdeploy.board.service import _facts

    _facts(_file(raw, folder, "slimdeploy.service"))


def _source(raw: bytes, folder: Path) -> None:
    from slimdeploy.board.service import rule_text, unit_text

    source = raw.decode("utf-8", "replace")
    unit = unit_text(folder, source, system=False)
    rule = "" if not source.startswith("/dev/video") else rule_text(source)
    if any(not sign.isprintable() and sign != "\n" for sign in unit + rule):
        raise AssertionError("a control character in a unit")
    if unit.count("\n") != unit_text(folder, "/dev/video0", system=False).count("\n"):
        raise AssertionError("a line too many in a unit")


def _signers(raw: bytes, folder: Path) -> None:
    from slimdeploy.bundle.sign import signer

    _file(b"{}", folder, "manifest.json")
    _file(seeds.SIGNATURE, folder, "manifest.json.sig")
    signer(folder, _file(raw, folder, "allowed_signers"))


def _options(raw: bytes, _folder: Path) -> None:
    from slimdeploy.bundle.dropins import parse
    from slimdeploy.cli.export import parse_imgsz
    from slimdeploy.errors import UsageError

    text = raw.decode("utf-8", "replace")
    for read in (parse, parse_imgsz):
        with contextlib.suppress(UsageError):
            read(text)


def _setup(raw: bytes, folder: Path) -> None:
    from slimdeploy.yolo.progress import read_setup

    _file(raw, folder, "setup.json")
    read_setup(folder)


def _training_request(raw: bytes, folder: Path) -> None:
    from slimdeploy.configs import FinetuneConfig
    from slimdeploy.stages._training import resume

    _file(raw, folder, "out.partial/work/request.json")
    resume(folder / "out.partial", "finetune", FinetuneConfig, lambda **_: folder)


REPORT_PARTS = ("bench/bench.json", "prune/run.json", "sparsify/run.json", "bench/evaluation.json", "prune/plan.json")

READERS: tuple[Reader, ...] = (
    Reader(name="recipe", seeds=lambda: (seeds.RECIPE, seeds.example("aerial_cars.toml")), kinds=TEXT, read=_recipe),
    Reader(name="target", seeds=seeds.targets, kinds=TEXT, read=_target),
    Reader(name="search", seeds=lambda: (seeds.SEARCH,), kinds=TEXT, read=_search),
    Reader(name="search's recipe", seeds=lambda: (seeds.RECIPE,), kinds=TEXT, read=_search_recipe),
    Reader(name="search's folder", seeds=seeds.search_folder, kinds=JSON, read=_search_folder),
    Reader(name="fleet", seeds=lambda: (seeds.FLEET,), kinds=TEXT, read=_fleet),
    Reader(name="address", seeds=lambda: seeds.ADDRESSES, kinds=TEXT, read=_address, share=0.5),
    Reader(name="plan", seeds=seeds.plan, kinds=JSON, read=_plan),
    Reader(name="latency table", seeds=seeds.table, kinds=JSON, read=_table),
    Reader(name="run record", seeds=seeds.run_record, kinds=JSON, read=_run_record),
    *(
        Reader(
            name=f"report: {part}", seeds=functools.partial(seeds.report_part, part), kinds=JSON,
            read=functools.partial(_report, part), share=0.08, limit_s=60.0,
        )
        for part in REPORT_PARTS
    ),
    *(
        Reader(
            name=f"page: {part}", seeds=functools.partial(seeds.report_part, part), kinds=JSON,
            read=functools.partial(_report, part, page=True), share=0.002, limit_s=300.0,
        )
        for part in REPORT_PARTS
    ),
    Reader(name="matches", seeds=seeds.matches, kinds=ZIP, read=_matches),
    Reader(name="manifest", seeds=seeds.manifest, kinds=JSON, read=_manifest),
    Reader(name="golden sample", seeds=lambda: (seeds.GOLDEN,), kinds=JSON, read=_golden),
    Reader(name="bundle archive", seeds=seeds.archive, kinds=BYTES, read=_archive),
    Reader(name="tar in an archive", seeds=seeds.bundle_tar, kinds=TAR, read=_tar_in_archive),
    Reader(name="cached stage", seeds=seeds.stage_tar, kinds=TAR, read=_cached_stage, share=0.5),
    Reader(name="data.yaml", seeds=lambda: (seeds.DATA, seeds.DATA_NC), kinds=TEXT, read=_data_set),
    Reader(name="labels", seeds=lambda: (seeds.LABELS,), kinds=TEXT, read=_labels),
    Reader(name="image list", seeds=lambda: (seeds.IMAGE_LIST,), kinds=TEXT, read=_image_list),
    Reader(name="VisDrone rows", seeds=lambda: (seeds.VISDRONE,), kinds=TEXT, read=_visdrone),
    Reader(name="ONNX", seeds=seeds.onnx_models, kinds=ONNX, read=_onnx, share=2.0),
    Reader(
        name="checkpoint", seeds=seeds.checkpoint, kinds=ZIP, read=_checkpoint, share=0.05, limit_s=60.0,
    ),
    Reader(name="trtexec's profile", seeds=lambda: (seeds.PROFILE,), kinds=JSON, read=_trtexec, share=0.5),
    Reader(name="board's request", seeds=lambda: seeds.REQUESTS, kinds=JSON, read=_request),
    Reader(name="board's answer", seeds=lambda: seeds.ANSWERS, kinds=JSON, read=_answer, share=0.5),
    Reader(name="tegrastats", seeds=lambda: (seeds.TEGRASTATS,), kinds=TEXT, read=_tegrastats),
    Reader(name="sysfs and nvpmodel", seeds=lambda: (seeds.BOARD,), kinds=TEXT, read=_board_files),
    Reader(name="unit's facts", seeds=lambda: (seeds.UNIT,), kinds=TEXT, read=_unit, share=0.5),
    Reader(name="service's source", seeds=lambda: seeds.SOURCES, kinds=TEXT, read=_source, share=0.5),
    Reader(
        name="allowed_signers", seeds=lambda: (seeds.SIGNERS,), kinds=TEXT, read=_signers, share=0.02,
        programs=("ssh-keygen",),
    ),
    Reader(name="options", seeds=lambda: seeds.OPTIONS, kinds=TEXT, read=_options, share=0.5),
    Reader(name="training's setup", seeds=lambda: (seeds.SETUP,), kinds=JSON, read=_setup, share=0.5),
    Reader(name="training's request", seeds=seeds.training_request, kinds=JSON, read=_training_request, share=0.5),
)  # fmt: skip

NEED = {  # what a reader imports beyond the light core and the extra onnx
    "checkpoint": "train", "training's setup": "train", "training's request": "train", "search's recipe": "search",
}  # fmt: skip


def clear(folder: Path) -> None:
    """Remove what the last input left."""
    for one in folder.iterdir():
        shutil.rmtree(one) if one.is_dir() and not one.is_symlink() else one.unlink()
