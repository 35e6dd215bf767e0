"""Decide which channels go: by a share, by a latency on a target, or as a plan says. No weight is touched."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from slimdeploy.channels import Coupling
from slimdeploy.configs import FIGURES, PruneConfig
from slimdeploy.data.dataset import read_dataset
from slimdeploy.errors import GateError, UsageError
from slimdeploy.latency.board import board_forecast, rates_of
from slimdeploy.latency.table import read_table
from slimdeploy.lineage import Input, file_input
from slimdeploy.records import Checkpoint, PlannedGroup, PrunePlan, Target
from slimdeploy.stages._built import coupling_of
from slimdeploy.stages._importance import importance_of
from slimdeploy.stages._reconstruct import covariances_of, fitted_on
from slimdeploy.stages._trials import Importance, Trials, images_for
from slimdeploy.stages.aim import Aim, asked_latency_ms, plan_by_forecast, plan_by_measuring
from slimdeploy.stages.losses import costs_of, planned_units
from slimdeploy.stages.outlook import outlook
from slimdeploy.stages.plan import config_of, make_plan, read_plan, require_fits
from slimdeploy.stages.planner import Forecast, forecast_ms
from slimdeploy.stages.widths import Unit, units_of

if TYPE_CHECKING:
    from torch import nn

    from slimdeploy.yolo.moments import Covariances

log = logging.getLogger("slimdeploy.prune")


@dataclass(frozen=True, slots=True, kw_only=True)
class Means:
    """What a plan is made with, besides the weights and the settings.

    Attributes:
        target: where the network shall be as quick as the config asks; None where the budget is a share.
        table: a latency table of that target; None takes the model of its board.
        data: YAML of a data set whose images sensitivities and gradients are measured on, a plan for a share is
            tried on, and the weights that stay are fitted on; without it scenes are rendered for sensitivities, a plan
            for a share is not tried, and weights stay as they are.
        plan: a plan to replay; the config is then what `config_of` says of it.
    """

    target: Target | None = None
    table: Path | None = None
    data: Path | None = None
    plan: Path | None = None

    def inputs(self) -> dict[str, Input]:
        """Return what is read, by its role."""
        files = {"table": (self.table, "latency table"), "plan": (self.plan, "prune plan")}
        found = {}
        for role, (path, what) in files.items():
            if path is not None and not path.is_file():
                raise UsageError(f"no {what} at {path}", wanted="a file that slimdeploy wrote")
            if path is not None:
                found[role] = file_input(path)
        if self.data is not None:
            found["data"] = read_dataset(self.data, check_labels=False).as_input()
        return found


NOTHING = Means()


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """A plan, and what it was made with.

    Attributes:
        plan: which channels stay.
        coupling: the network's groups.
        trials: the network on a few images; None where no plan was tried.
    """

    plan: PrunePlan
    coupling: Coupling
    trials: Trials | None = None


def decide(
    module: nn.Module, known: Checkpoint, config: PruneConfig, means: Means, *, measuring: bool = True
) -> Decision:
    """Return the plan by which a stock network would be cut; it is not changed.

    Args:
        module: the network.
        known: its checkpoint.
        config: the budget, and the alignment of the widths.
        means: target, table, data and plan, where they are needed.
        measuring: build and measure plans to a latency, where the target runs here.

    Raises:
        UsageError, GateError: as in `prune`.
    """
    coupling = coupling_of(module, config.imgsz)
    log.info("%d groups of coupled channels in %d convolutions", len(coupling.groups), len(coupling.layers))
    if means.plan is not None:
        plan = _replayed(means.plan, coupling, config, known)
        return Decision(
            plan=plan, coupling=coupling, trials=_trials_of(plan, module, known, coupling, config, means.data)
        )
    forecast = _forecast(coupling, config, means) if config.budget[0] in FIGURES else None
    if forecast is not None:
        _foresee(module, coupling, config, means, forecast)
    config = _with_criterion(config, means.data)
    seen = _look(module, coupling, config, means.data)
    if forecast is None:
        return _by_share(module, known, config, means.data, seen)
    aim = _aim(module, known, config, means, forecast, seen)
    plan = plan_by_measuring(aim, config) if measuring and forecast.here else plan_by_forecast(aim, config)
    return Decision(plan=plan, coupling=coupling, trials=aim.trials)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Seen:
    """What a network's channels are to it.

    Attributes:
        coupling: its groups.
        importance: one value a channel, for every group by its name.
        covariances: of what layers read, where weights will be fitted anew after the cut; or None.
    """

    coupling: Coupling
    importance: Importance
    covariances: Covariances | None

    def trials(
        self, module: nn.Module, known: Checkpoint, config: PruneConfig, data: Path | None, units: Sequence[Unit]
    ) -> Trials:
        """Return the network on a few images, on which it can be tried without some channels."""
        from slimdeploy.yolo import prunable

        images, where = images_for(data, known.classes, self.coupling, config, len(units))
        log.info("prune: trials are made on %s", where)
        return Trials(
            prunable.split_copy(module), self.coupling, units, self.importance, images, covariances=self.covariances
        )


def _with_criterion(config: PruneConfig, data: Path | None) -> PruneConfig:
    """Return the settings with a criterion: the one that was asked for, or the one that suits what is at hand."""
    suits = "bn_gamma" if fitted_on(config, data) is None else "reconstruction"
    return dataclasses.replace(config, criterion=config.criterion or suits)


def _look(module: nn.Module, coupling: Coupling, config: PruneConfig, data: Path | None) -> _Seen:
    images = fitted_on(config, data)
    covariances = None if images is None else covariances_of(module, coupling, config, images)
    importance = importance_of(module, coupling, config, data, covariances)
    return _Seen(coupling=coupling, importance=importance, covariances=covariances)


def require_forecast(config: PruneConfig, means: Means) -> None:
    """Check, without the network, that milliseconds can be foretold where the budget asks for them.

    Raises:
        TargetError: there is no table, and nothing is known of the board's speed.
        UsageError: there is no target, or the table is missing, damaged or not of that target.
    """
    if means.plan is not None or config.budget[0] not in FIGURES:
        return
    target, table = _target_of(config, means), means.table
    if table is None:
        rates_of(target, config.precision, config.imgsz)
    else:
        read_table(table).require_made_for(target, config.precision)


def _target_of(config: PruneConfig, means: Means) -> Target:
    if means.target is None:
        raise UsageError(f"a {config.budget[0]} without a target", wanted="--target", do="see slimdeploy targets")
    return means.target


def _forecast(coupling: Coupling, config: PruneConfig, means: Means) -> Forecast:
    """Return what tells milliseconds by layer: the table that was given, or the model of the target's board."""
    target, table = _target_of(config, means), means.table
    if table is None:
        return board_forecast(target, coupling, config.precision)
    found = read_table(table)
    found.require_made_for(target, config.precision)
    found.require_fits(coupling)
    return found


def _foresee(module: nn.Module, coupling: Coupling, config: PruneConfig, means: Means, forecast: Forecast) -> None:
    """Say what the budget leaves of the network, before minutes are spent on it.

    Raises:
        GateError: by the model of a board, no widths are that quick.
    """
    dense_ms = forecast_ms(coupling, coupling.whole(), forecast)
    asked_ms = asked_latency_ms(config, dense_ms)
    units = planned_units(coupling, config.alignment, config.least_share)
    foreseen = outlook(coupling, units, forecast, asked_ms, lambda: _stock_scales(module, config, means))
    for line in foreseen.lines():
        log.info("prune: %s", line)
    if not forecast.measured and foreseen.narrowest_ms > asked_ms * (1 + config.latency_tolerance):
        raise GateError(
            f"{asked_ms:.2f} ms cannot be reached by width: with every group as narrow as it may be, the network takes "
            f"{foreseen.narrowest_ms:.2f} ms by the {forecast.source}",
            wanted=f"{foreseen.narrowest_ms:.2f} ms or more",
            do=foreseen.advice,
        )
    if foreseen.severe:
        log.warning("prune: %s", foreseen.advice)


def _stock_scales(module: nn.Module, config: PruneConfig, means: Means) -> Iterator[tuple[str, float]]:
    """Give the smaller stock scales with their milliseconds; a measured table knows its own network alone."""
    from slimdeploy.yolo.scales import smaller_scales

    if means.target is None or means.table is not None:
        return
    for name, stock in smaller_scales(module):
        coupling = coupling_of(stock, config.imgsz)
        forecast = board_forecast(means.target, coupling, config.precision)
        yield name, forecast_ms(coupling, coupling.whole(), forecast)


def _aim(
    module: nn.Module, known: Checkpoint, config: PruneConfig, means: Means, forecast: Forecast, seen: _Seen
) -> Aim:
    assert means.target is not None  # _forecast asked for it
    coupling, importance = seen.coupling, seen.importance
    units = planned_units(coupling, config.alignment, config.least_share)
    trials = seen.trials(module, known, config, means.data, units)
    log.info("prune: trying %d groups alone", len(units))
    return Aim(
        module=module,
        coupling=coupling,
        importance=importance,
        costs=costs_of(units, importance, trials.alone),
        trials=trials,
        forecast=forecast,
        target=means.target,
        weights_sha256=known.sha256,
    )


def _by_share(module: nn.Module, known: Checkpoint, config: PruneConfig, data: Path | None, seen: _Seen) -> Decision:
    """Return a plan for a share; on images of `data` it is tried as a whole.

    It is refused if nothing is found then, unless weights will be fitted anew, after which it is tried once more.
    """
    coupling = seen.coupling
    plan = make_plan(coupling, seen.importance, config, weights_sha256=known.sha256)
    if data is None:
        return Decision(plan=plan, coupling=coupling)
    trials = seen.trials(module, known, config, data, units_of(coupling.groups, config.alignment))
    whole = trials.whole({group.name: len(group.kept) for group in plan.groups})
    return Decision(plan=dataclasses.replace(plan, whole=whole), coupling=coupling, trials=trials)


def _trials_of(
    plan: PrunePlan, module: nn.Module, known: Checkpoint, coupling: Coupling, config: PruneConfig, data: Path | None
) -> Trials | None:
    """Return the network on a few images, to try a plan on that is replayed; None where it is not fitted anew."""
    images = fitted_on(config, data)
    if images is None:
        if plan.rebuilt is not None:
            log.warning("prune: the plan was made with weights fitted to images; without --data they stay as they are")
        return None
    covariances = covariances_of(module, coupling, config, images)
    by_place = {group.name: _by_place(group) for group in plan.groups}
    seen = _Seen(coupling=coupling, importance=by_place, covariances=covariances)
    return seen.trials(module, known, config, data, units_of(coupling.groups, config.alignment))


def _by_place(group: PlannedGroup) -> tuple[float, ...]:
    """Return an importance by which exactly those channels stay that a plan keeps."""
    return tuple(float(channel in group.kept) for channel in range(group.width))


def _replayed(path: Path, coupling: Coupling, config: PruneConfig, known: Checkpoint) -> PrunePlan:
    plan = read_plan(path)
    if config_of(plan) != dataclasses.replace(config, criterion=config.criterion or plan.criterion):
        raise UsageError(
            f"the settings are not those of the plan {path}", wanted="the plan's own", do="give --plan alone"
        )
    require_fits(plan, coupling, weights_sha256=known.sha256)
    return plan
