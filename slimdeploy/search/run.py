"""Begin a search, go on with one, or look at one."""

from __future__ import annotations

import contextlib
import dataclasses
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from slimdeploy._needs import require
from slimdeploy.errors import GateError, StageFailed, UsageError
from slimdeploy.files import MALFORMED, read_toml, why_malformed
from slimdeploy.lineage import read_json
from slimdeploy.recipes import recipe_from
from slimdeploy.search.drive import Driver
from slimdeploy.search.folder import LOGS, PROGRESS_FILE, Folder, make_rooms, new_folder, only_here, open_folder
from slimdeploy.search.local import Engine, LocalEngine
from slimdeploy.search.page import write_report
from slimdeploy.search.space import with_values
from slimdeploy.search.spec import CONSTRAINTS, Spec, read_spec
from slimdeploy.search.store import UrlStore, is_url
from slimdeploy.search.study import Book
from slimdeploy.search.trial import DONE, WALK
from slimdeploy.search.view import View, failures

STALE_S = 30.0  # a note of what runs that is older tells of a search that is not at work


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How a search is run; what it finds does not hang on it.

    Attributes:
        engine: `local` or `ray`.
        address: of the Ray cluster; "" starts or finds one here.
        slots: trials side by side on this machine, in place of what its devices allow; 0 for those.
        storage: the study's URL; "" is SQLite in the search's folder.
        cache: a folder or URL that stages are kept in; "" is the search's folder.
        data: a data set's YAML that stands in for the recipe's own, or None.
        trust: open checkpoints even if they hold unknown objects.
        walk: what walks a trial, as `module:function`.
    """

    engine: str = "local"
    address: str = ""
    slots: int = 0
    storage: str = ""
    cache: str = ""
    data: Path | None = None
    trust: bool = False
    walk: str = WALK

    def __post_init__(self) -> None:
        if self.engine not in ("local", "ray"):
            raise UsageError(f"the engine {self.engine!r}", wanted="local or ray")
        if self.address and self.engine != "ray":
            raise UsageError("an address without Ray", wanted="--engine ray beside --address")


Watch = Callable[[View], None]


def start(search: Path, out: Path, options: Options, watch: Watch = lambda view: None) -> View:
    """Search a space and return how it ended.

    Args:
        search: the SEARCH.toml.
        out: the folder to make.
        options: where trials are walked, and where what they make is kept.
        watch: shown how the search stands, now and then.

    Raises:
        DeviceError: the study's storage or the cluster does not answer.
        GateError: no trial meets every constraint.
        MissingDependency: an extra is not installed.
        OutputExists: `out` is there already.
        StageFailed: a disk is full, or no trial ended well.
        UsageError: the search, its recipe or its data is wrong.
    """
    require("search")
    spec = read_spec(search, data=options.data)
    require_possible(spec, options)
    if is_url(options.cache):
        UrlStore(options.cache)  # now, not in every trial
    folder = new_folder(read_toml(search, what="search"), spec, out, cache=options.cache, storage=options.storage)
    return _drive(folder, options, watch, create=True)


def go_on(out: Path, options: Options, watch: Watch = lambda view: None, *, search: Path | None = None) -> View:
    """Go on with a search that was stopped, or that is to have a larger budget.

    Args:
        out: the search's folder.
        options: as at the beginning; the cache and the data are those that it began with.
        watch: shown how the search stands, now and then.
        search: a SEARCH.toml of the same space, for another budget or other limits of a trial; None changes nothing.

    Raises:
        UsageError: `out` is no search's folder, or `search` is of another space.
        SlimdeployError: as `start`.
    """
    require("search")
    folder = open_folder(out)
    if search is not None:
        spec = read_spec(search, data=folder.spec.data)
        if spec.identity != folder.spec.identity:
            raise UsageError(
                f"{search} is of another space than the search in {out}, or of another recipe, sampler, seed or batch",
                wanted="the same; budget and limits of a trial may differ", do="begin anew with another --out",
            )  # fmt: skip
        folder = dataclasses.replace(folder, spec=spec)
    return _drive(folder, options, watch, create=False)


def status(out: Path, storage: str = "") -> View:
    """Return how a search stands; it may be at work in another process.

    Raises:
        UsageError: `out` is no search's folder.
        DeviceError: the study's storage does not answer.
    """
    require("search")
    folder = open_folder(out)
    running = {}
    if (out / PROGRESS_FILE).exists():
        noted = read_json(out / PROGRESS_FILE, what="progress")
        try:
            if time.time() - noted["written_at"] < STALE_S:
                running = {int(number): (str(one[0]), float(one[1])) for number, one in noted["running"].items()}
        except MALFORMED as error:
            raise UsageError(f"{out / PROGRESS_FILE} is damaged: {why_malformed(error)}", do="remove it") from error
    with contextlib.closing(Book(folder.spec, folder.url(storage), folder.identity, create=False)) as book:
        return View(spec=folder.spec, records=tuple(book.records()), running=running)


def _drive(folder: Folder, options: Options, watch: Watch, *, create: bool) -> View:
    with only_here(folder.path):
        make_rooms(folder.path)
        engine, book = _opened(folder, options, new=create)
        with contextlib.closing(book):
            with contextlib.closing(engine):
                view = Driver(folder, book, engine, trust=options.trust, watch=watch, walk=options.walk).drive()
            if view.records:
                write_report(view, book.importances(), folder.path)
        return view


def _opened(folder: Folder, options: Options, *, new: bool) -> tuple[Engine, Book]:
    """Return engine and study; a folder that was made for a search that cannot begin is removed.

    A search that was killed before it noted any progress may have no study yet, so that one is made then, too.
    """
    create = new or not (folder.path / PROGRESS_FILE).exists()
    try:
        engine = engine_for(folder, options)
        try:
            return engine, Book(folder.spec, folder.url(options.storage), folder.identity, create=create)
        except BaseException:
            engine.close()
            raise
    except BaseException:
        if new:
            shutil.rmtree(folder.path)
        raise


def engine_for(folder: Folder, options: Options) -> Engine:
    """Return the engine that was asked for, started."""
    if options.engine == "ray":
        from slimdeploy.search.ray_engine import RayEngine

        return RayEngine(folder.spec.trial, options.address, None if folder.store else folder.cache)
    return LocalEngine(folder.spec.trial, folder.path / LOGS, slots=options.slots)


def require_possible(spec: Spec, options: Options) -> None:
    """Refuse before anything is trained what would fail in every trial.

    Raises:
        DataError: the data set is missing, empty or mislabelled.
        UsageError: an objective has no data, or the weights are missing.
    """
    from slimdeploy.data.dataset import read_dataset
    from slimdeploy.stages._built import runs_here
    from slimdeploy.targets import load_target

    if options.walk != WALK:
        return
    first = with_values(spec.recipe, {one.name: one.examples()[0] for one in spec.space})
    recipe = recipe_from(first, spec.place, data=spec.data)
    target = load_target(recipe.target)
    read_dataset(recipe.data)
    if recipe.weights is not None and not recipe.weights.is_file():
        raise UsageError(f"no checkpoint at {recipe.weights}", wanted="the recipe's weights")
    needed = {*spec.objectives, *(CONSTRAINTS[name][0] for name in spec.constraints)}
    if "p50_ms" in needed and not spec.trial.device and not runs_here(target):
        raise UsageError(
            f"p50_ms has no data: this machine cannot time what is built for {target.name}",
            wanted="a target that runs here, or a board to measure on",
            do='name it: device = "ssh://user@board" below [trial]',
        )
    if "joules" in needed and options.engine == "local" and not spec.trial.device:
        _require_meter()


def _require_meter() -> None:
    from slimdeploy.bench.power import meters

    if not meters():
        raise UsageError(
            "joules has no data: this machine has no power meter that can be read",
            wanted="a Jetson, an NVIDIA GPU, or RAPL that may be read", do="leave joules out of the objectives",
        )  # fmt: skip


def require_found(view: View) -> None:
    """Raise where a search that has ended found nothing.

    Raises:
        GateError: no trial meets every constraint.
        StageFailed: no trial ended well.
    """
    if view.front:
        return
    done = view.having(DONE)
    if not done:
        said = failures(view)
        raise StageFailed(
            f"no trial ended well; {said[-1] if said else 'none was begun'}", do="mend that, and begin anew or --resume"
        )
    nearest = min(done, key=lambda one: sum(max(0.0, by) for by in view.spec.violations(one.figures).values()))
    missed = {name: CONSTRAINTS[name][0] for name, by in view.spec.violations(nearest.figures).items() if by > 0}
    told = ", ".join(
        f"{figure} {nearest.figures[figure]:.4g} against {name} {view.spec.constraints[name]:g}"
        for name, figure in missed.items()
    )
    raise GateError(
        f"no trial of {len(done)} meets every constraint; the nearest, trial {nearest.number}, has {told}",
        do="loosen a constraint, widen the space, or give it more trials",
    )
