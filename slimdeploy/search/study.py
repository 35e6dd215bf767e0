"""The study: what was tried and what came of it, in Optuna's storage, which is SQLite here or PostgreSQL by URL."""

from __future__ import annotations

import json
import logging
import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from slimdeploy._needs import needs
from slimdeploy.errors import DeviceError, UsageError
from slimdeploy.fields import mismatch
from slimdeploy.files import parse_json
from slimdeploy.search.space import Setting, combinations
from slimdeploy.search.spec import OBJECTIVES, Spec
from slimdeploy.search.trial import DONE, FAILED, STOPPED, Outcome

if TYPE_CHECKING:
    import optuna

log = logging.getLogger("slimdeploy.search")
Value = TypeVar("Value")
PATIENCE_S = 600.0  # for a database that went away
RETRY_S = 2.0
OPEN, REPEAT = "open", "repeat"
TOLD = "told"  # the attribute that holds a trial's outcome
BATCH = "batch"
IDENTITY, FOLDER = "identity", "folder"
STARTUP = 8  # trials that are chosen at random before TPE learns from them
REPEATS = 20  # choices that were made before, after which the rest of a batch is chosen at random
MOST_REPEATS = 200
WORST = 1e12  # of a figure that is not known, since its trial was stopped; the constraint that it misses ranks it


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One trial as the study holds it.

    Attributes:
        number: Optuna's.
        values: the searched settings.
        state: OPEN, DONE, FAILED or STOPPED.
        batch: which batch it was chosen in.
        figures: what was measured.
        why: why it failed or was stopped.
        bundle: the export's folder below the cache, or "".
        steps: the stages that it went through: key, stage, hit, seconds.
        seconds: from beginning to end, or None.
        met: whether every constraint is met; None where that is not known.
    """

    number: int
    values: Mapping[str, Any]
    state: str
    batch: int
    figures: Mapping[str, float]
    why: str = ""
    bundle: str = ""
    steps: tuple[Mapping[str, Any], ...] = ()
    seconds: float | None = None
    met: bool | None = None


class Book:
    """A study, opened.

    Args:
        spec: what is searched.
        url: the storage's URL, as SQLAlchemy reads it.
        folder: the identity of the search's folder, which no other study has.
        create: make the study; else it must be there.
        patience_s: for how long a database that went away is waited for.

    Raises:
        DeviceError: the database does not answer.
        UsageError: the URL is none, or the study is of another space or another folder.
    """

    def __init__(self, spec: Spec, url: str, folder: str, *, create: bool, patience_s: float = PATIENCE_S) -> None:
        self.spec, self._patience_s = spec, patience_s
        with needs("search"):
            import optuna
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._storage: optuna.storages.RDBStorage | None = None
        try:
            self._study = self._opened(url, folder, create=create)
            self._require_same(folder)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Leave the database."""
        if self._storage is not None:
            self._storage.remove_session()
            self._storage.engine.dispose()

    def _opened(self, url: str, folder: str, *, create: bool) -> optuna.Study:
        import optuna
        import sqlalchemy

        options = {"pool_pre_ping": True} | ({} if url.startswith("sqlite") else {"connect_args": _timeouts(url)})
        try:
            storage = self._storage = optuna.storages.RDBStorage(url, engine_kwargs=options)
            directions = ["maximize" if OBJECTIVES[name] else "minimize" for name in self.spec.objectives]
            name = f"slimdeploy-{folder}"
            if create:
                study = optuna.create_study(
                    storage=storage, study_name=name, directions=directions, load_if_exists=True
                )
                study.set_user_attr(IDENTITY, self.spec.identity)
                study.set_user_attr(FOLDER, folder)
                return study
            return optuna.load_study(storage=storage, study_name=name)
        except KeyError as error:
            raise UsageError(
                f"the storage {redacted(url)} holds no study of this folder", wanted="the storage that it began with",
                do="name it with --storage",
            ) from error  # fmt: skip
        except (ImportError, sqlalchemy.exc.ArgumentError) as error:
            raise UsageError(
                f"the storage {redacted(url)} cannot be opened: {_first_line(error)}",
                wanted="a URL such as postgresql+psycopg://user@host/database",
                do='check it; for PostgreSQL: pip install "slimdeploy[postgres]"',
            ) from error
        except (sqlalchemy.exc.SQLAlchemyError, optuna.exceptions.StorageInternalError) as error:
            raise DeviceError(
                f"the storage {redacted(url)} does not answer: {_first_line(error)}",
                do="check that the database runs and the URL is right",
            ) from error

    def _require_same(self, folder: str) -> None:
        known = self._patiently(lambda: self._study.user_attrs)
        if known.get(IDENTITY) != self.spec.identity or known.get(FOLDER) != folder:
            raise UsageError(
                "the study is of another space, or of another recipe, sampler, seed or batch",
                wanted="the search that it was begun with; trials of two spaces cannot be compared",
                do="begin anew with another --out",
            )

    def records(self) -> list[Record]:
        """Return every trial that counts, by number."""
        found = self._patiently(lambda: self._study.get_trials(deepcopy=False))
        records = [_record(trial, self.spec) for trial in found]
        return [one for one in records if one.state != REPEAT]

    def record(self, number: int) -> Record:
        """Return one trial as the study holds it now."""
        return _record(self._patiently(lambda: self._frozen(number)), self.spec)

    def _frozen(self, number: int) -> optuna.trial.FrozenTrial:
        trial_id = self._study._storage.get_trial_id_from_study_id_trial_number(self._study._study_id, number)
        return self._study._storage.get_trial(trial_id)

    def ask(self, batch: int, count: int) -> list[Record]:
        """Choose trials before any of them has ended; fewer than `count` where the space is tried out.

        The sampler is seeded by batch, so that a search that was stopped chooses as an unbroken one does.
        """
        self._study.sampler = _sampler(self.spec, batch)
        known = {_fingerprint(one.values) for one in self.records()}
        asked: list[Record] = []
        for attempt in range(count + MOST_REPEATS):
            if len(asked) == count or len(known) >= combinations(self.spec.space):
                break
            if attempt == count + REPEATS:
                self._study.sampler = _random(self.spec, batch)
            record = self._ask_one(batch)
            if _fingerprint(record.values) in known:
                self._drop(record.number)
            else:
                known.add(_fingerprint(record.values))
                asked.append(record)
        return asked

    def _ask_one(self, batch: int) -> Record:

        distributions = {one.name: _distribution(one) for one in self.spec.space}

        def ask() -> optuna.Trial:
            return self._study.ask(fixed_distributions=distributions)

        trial = self._patiently(ask)
        self._patiently(lambda: trial.set_user_attr(BATCH, batch))
        return Record(number=trial.number, values=dict(trial.params), state=OPEN, batch=batch, figures={})

    def drop_orphans(self) -> None:
        """Forget trials that were begun to be chosen when the search was killed."""
        for trial in self._patiently(lambda: self._study.get_trials(deepcopy=False)):
            if not trial.state.is_finished() and BATCH not in trial.user_attrs:
                self._drop(trial.number)

    def _drop(self, number: int) -> None:
        self._finish(number, {"state": REPEAT, "why": "chosen before"})

    def tell(self, number: int, outcome: Outcome) -> None:
        """Note a trial's outcome; a second time changes nothing."""
        self._finish(number, outcome)

    def _finish(self, number: int, outcome: Outcome) -> None:
        import optuna

        def finish() -> None:
            frozen = self._frozen(number)
            if frozen.state.is_finished():
                return
            trial = optuna.Trial(self._study, frozen._trial_id)
            trial.set_user_attr(TOLD, json.dumps(outcome, default=str))
            if outcome["state"] not in (DONE, STOPPED):
                self._study.tell(number, state=optuna.trial.TrialState.FAIL, skip_if_finished=True)
                return
            figures = outcome["figures"]
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # a constraint that was set before the database went away
                for name, missed in self.spec.violations(figures).items():
                    trial.set_constraint(name, missed)
            values = [figures.get(name, 0.0 if OBJECTIVES[name] else WORST) for name in self.spec.objectives]
            self._study.tell(number, values, skip_if_finished=True)

        self._patiently(finish)

    def importances(self) -> dict[str, dict[str, float]]:
        """Return what share each setting has in each objective, by Optuna's PED-ANOVA; {} with too few trials."""
        import optuna

        done = [one for one in self.records() if one.state == DONE]
        distributions = {one.name: _distribution(one) for one in self.spec.space}
        found: dict[str, dict[str, float]] = {}
        for name in self.spec.objectives:
            study = optuna.create_study(direction="maximize" if OBJECTIVES[name] else "minimize")
            for one in done:
                study.add_trial(
                    optuna.create_trial(
                        params=dict(one.values), distributions=distributions, value=one.figures[name]
                    )
                )  # fmt: skip
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    found[name] = optuna.importance.get_param_importances(study)
            except (ValueError, RuntimeError):  # fewer than two trials, or none that differ
                return {}
        return found

    def _patiently(self, do: Callable[[], Value]) -> Value:
        """Do something with the storage, again and again while the database is away."""
        import optuna
        import sqlalchemy

        ends = time.monotonic() + self._patience_s
        while True:
            try:
                return do()
            except (sqlalchemy.exc.DBAPIError, optuna.exceptions.StorageInternalError) as error:
                if time.monotonic() > ends or "disk is full" in str(error):
                    raise DeviceError(
                        f"the study's storage does not answer: {_first_line(error)}",
                        do="mend it, and run the same command with --resume; nothing that ended is lost",
                    ) from error
                log.warning("the study's storage does not answer; it is asked again")
                time.sleep(min(RETRY_S, self._patience_s / 4))


def redacted(url: str) -> str:
    """Return a storage's URL without its password."""
    scheme, separator, rest = url.partition("://")
    if url and not separator:
        return "that was given"  # no URL, so that nobody can tell what in it is secret
    login, at, place = rest.rpartition("@")
    return f"{scheme}{separator}{login.partition(':')[0]}{at}{place.partition('?')[0]}"


def _timeouts(url: str) -> dict[str, Any]:
    return {"connect_timeout": 10} if url.startswith("postgresql") else {}


def _first_line(error: Exception) -> str:
    lines = str(error.__cause__ or error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def _sampler(spec: Spec, batch: int) -> optuna.samplers.BaseSampler:
    import optuna

    seed = 1_000_003 * spec.config.seed + batch
    if spec.config.sampler == "random":
        return _random(spec, batch)
    if spec.config.sampler == "nsga2":
        return optuna.samplers.NSGAIISampler(seed=seed, population_size=max(2, spec.config.batch))
    return optuna.samplers.TPESampler(seed=seed, n_startup_trials=STARTUP)


def _random(spec: Spec, batch: int) -> optuna.samplers.BaseSampler:
    import optuna

    return optuna.samplers.RandomSampler(seed=1_000_003 * spec.config.seed + batch)


def _distribution(setting: Setting) -> optuna.distributions.BaseDistribution:
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if setting.choices:
        return CategoricalDistribution(setting.choices)
    if setting.is_whole:
        return IntDistribution(int(setting.low), int(setting.high), log=setting.log, step=int(setting.step or 1))
    return FloatDistribution(setting.low, setting.high, log=setting.log, step=setting.step)


def _fingerprint(values: Mapping[str, Any]) -> str:
    return json.dumps(values, sort_keys=True, default=str)


_TOLD_FIELDS: Mapping[str, Any] = {
    "figures": Mapping[str, Any], "steps": tuple[Any, ...], "seconds": float | None, "state": str, "why": str,
    "bundle": str,
}  # fmt: skip


def _told(trial: optuna.trial.FrozenTrial) -> Mapping[str, Any]:
    """Return what a worker told of a trial; a study's database may be anybody's."""
    told = parse_json(trial.user_attrs.get(TOLD, "{}"), where=f"trial {trial.number} of the study", what="record")
    if not isinstance(told, dict):
        raise UsageError(f"trial {trial.number} of the study is damaged", do="begin a new study")
    for key, hint in _TOLD_FIELDS.items():
        if key in told and (found := mismatch(hint, told[key], key)):
            raise UsageError(f"trial {trial.number} of the study is damaged: {found.wrong}", wanted=found.wanted)
    if not all(isinstance(figure, (int, float)) for figure in told.get("figures", {}).values()):  # NaN fails its trial
        raise UsageError(f"trial {trial.number} of the study is damaged", wanted="figures that are numbers")
    return told


def _record(trial: optuna.trial.FrozenTrial, spec: Spec) -> Record:
    told = _told(trial) if trial.state.is_finished() else {}
    figures = told.get("figures", {})
    state = str(told.get("state", FAILED)) if trial.state.is_finished() else OPEN
    if BATCH not in trial.user_attrs:
        state = REPEAT
    return Record(
        number=trial.number,
        values=dict(trial.params),
        state=state,
        batch=int(trial.user_attrs.get(BATCH, -1)),
        figures=figures,
        why=str(told.get("why", "")),
        bundle=str(told.get("bundle", "")),
        steps=tuple(told.get("steps", ())),
        seconds=told.get("seconds"),
        met=all(missed <= 0 for missed in spec.violations(figures).values()) if state == DONE else None,
    )
