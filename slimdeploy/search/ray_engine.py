"""The engine of many machines: Ray places the legs of trials, a leg being all stages of one kind in a row.

What makes runs where there are CPUs, GPUs and memory for it; what measures runs on the one node that offers the
resource `slimdeploy_measure`, else on the driver's own. Retries are the driver's business, as on one machine.
"""

from __future__ import annotations

import dataclasses
import os
import socket
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from slimdeploy._cores import usable_cores
from slimdeploy._needs import require
from slimdeploy.bench.process import worker_environment
from slimdeploy.configs import TrialConfig
from slimdeploy.errors import DeviceError, UsageError
from slimdeploy.search.keys import MAKING, MEASURING
from slimdeploy.search.local import OnEvent
from slimdeploy.search.ray_keeper import Keeper, NodeFacts, leg, look
from slimdeploy.search.trial import FAILED, FULL, LOST, Job, Outcome

MEASURE = "slimdeploy_measure"  # the resource that the node offers on which latency is measured
BOUND_TO = ("slimdeploy", "python", "torch", "ultralytics")  # nodes must agree in these
CONNECT_S = 10.0
LOOK_S = 120.0  # for a node to say what is installed on it
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS")
CHECK_S = 5.0


class RayEngine:
    """Walks trials on a Ray cluster.

    Args:
        trial: what one trial may take.
        address: the cluster's, as ray.init reads it; "" starts one of this machine alone.
        cache: the folder that stages are kept in, which all nodes must see; None where a URL keeps them.

    Raises:
        DeviceError: no cluster answers at the address, or a node does not answer.
        MissingDependency: the extra `ray` is not installed.
        UsageError: nodes have other versions, do not see the cache, or offer no place for a trial.
    """

    def __init__(self, trial: TrialConfig, address: str, cache: Path | None) -> None:
        require("ray")
        self._trial = trial = dataclasses.replace(trial, cpus=trial.cpus or 1)
        self.cpus = trial.cpus
        self._refs: dict[Any, tuple[Job, str]] = {}
        self._avoid: dict[int, str] = {}
        self._checked = 0.0
        _connect(address)
        try:
            self._begin(cache)
        except BaseException:
            self.close()
            raise

    def _begin(self, cache: Path | None) -> None:
        import ray

        self._home = ray.get_runtime_context().get_node_id()
        self._measures = ray.cluster_resources().get(MEASURE, 0)
        if self._measures > 1:
            raise UsageError(
                f"the nodes offer {self._measures:g} of {MEASURE}", do=f"offer 1 of {MEASURE}, on one node alone",
                wanted="one place to measure, since latencies of two machines cannot be compared",
            )  # fmt: skip
        _require_place(self._trial)
        settings = worker_environment(self._trial.cpus)
        self._shared = {"max_retries": 0, "runtime_env": {"env_vars": {name: settings[name] for name in THREADS}}}
        self._keeper = ray.remote(Keeper).options(num_cpus=0, scheduling_strategy=self._at(self._home)).remote()
        _require_same(self._facts(cache))
        self._leg = ray.remote(leg)

    def _at(self, node: str, *, soft: bool = False) -> Any:
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        return NodeAffinitySchedulingStrategy(node_id=node, soft=soft)

    def _facts(self, cache: Path | None) -> dict[str, NodeFacts]:
        """Ask every node what is installed there and whether it sees the cache; the driver's own comes first."""
        import ray

        mark = None
        if cache is not None:
            cache.mkdir(parents=True, exist_ok=True)
            mark = cache / f".seen-{os.getpid()}"
            mark.touch()
        nodes = sorted(_alive(), key=lambda node: node["NodeID"] != self._home)
        asked = ray.remote(look)
        refs = {
            node["NodeManagerAddress"] + ":" + str(node["NodeManagerPort"]): asked.options(
                **self._shared, num_cpus=0, scheduling_strategy=self._at(node["NodeID"])
            ).remote(str(mark or ""))
            for node in nodes
        }
        try:
            return {name: _answered(ref, name) for name, ref in refs.items()}
        finally:
            if mark is not None:
                mark.unlink(missing_ok=True)

    def free(self) -> bool:
        """Ray queues what does not fit yet."""
        return True

    def submit(self, job: Job) -> None:
        """Hand a leg to Ray."""
        kind = job.only or MAKING
        job = dataclasses.replace(job, only=kind)
        ref = self._leg.options(**self._shared, **self._options(job.number, kind)).remote(
            dataclasses.asdict(job), self._keeper
        )
        self._refs[ref] = (job, kind)

    def _options(self, number: int, kind: str) -> dict[str, Any]:
        if kind == MEASURING:
            if self._measures:
                return {"num_cpus": 0, "resources": {MEASURE: 1}}
            return {"num_cpus": 0, "scheduling_strategy": self._at(self._home)}
        options: dict[str, Any] = {"num_cpus": self._trial.cpus, "num_gpus": self._trial.gpus}
        if self._trial.memory_gb:
            options["memory"] = int(self._trial.memory_gb * 1e9)
        others = [node["NodeID"] for node in _alive() if node["NodeID"] != self._avoid.get(number)]
        if number in self._avoid and others:
            options["scheduling_strategy"] = self._at(others[number % len(others)], soft=True)
        return options

    def wait(self, seconds: float, on_event: OnEvent) -> list[tuple[int, Outcome]]:
        """Return the outcomes that came within some time, and tell of what the trials are at."""
        import ray

        if not self._refs:
            time.sleep(seconds)
            return []
        ready, _ = ray.wait(list(self._refs), num_returns=len(self._refs), timeout=0)
        if not ready:
            ready, _ = ray.wait(list(self._refs), timeout=seconds)
        for number, event in ray.get(self._keeper.news.remote()):
            on_event(number, event)
        self._require_measuring()
        return [self._outcome(ref) for ref in ready]

    def _outcome(self, ref: Any) -> tuple[int, Outcome]:
        import ray

        job, _ = self._refs.pop(ref)
        try:
            outcome: Outcome = ray.get(ref)
        except ray.exceptions.RayTaskError as error:
            outcome = {"state": FAILED, "why": f"{error.cause!r}"}
        except ray.exceptions.RayError as error:
            outcome = {"state": LOST, "why": _told(error)}
        if outcome["state"] == LOST:
            ray.get(self._keeper.drop.remote(job.number))
        if outcome["state"] == FULL:
            self._avoid[job.number] = outcome["node"]
        return job.number, outcome

    def _require_measuring(self) -> None:
        """Raise DeviceError where the node that measures has gone, since its legs would wait for ever."""
        import ray

        now = time.monotonic()
        waits = any(kind == MEASURING for _, kind in self._refs.values())
        if not (self._measures and waits) or now - self._checked < CHECK_S:
            return
        self._checked = now
        if not ray.cluster_resources().get(MEASURE, 0):
            raise DeviceError(
                "the node that measures has left the cluster",
                do=f"start one with --resources '{{\"{MEASURE}\": 1}}', and run the same command with --resume",
            )

    def kill(self, number: int) -> None:
        """End a trial's leg by force."""
        import ray

        for ref, (job, _) in list(self._refs.items()):
            if job.number == number:
                del self._refs[ref]
                ray.cancel(ref, force=True)
                ray.get(self._keeper.drop.remote(number))

    def close(self) -> None:
        """End what was begun, and leave the cluster."""
        import ray

        for ref in self._refs:
            ray.cancel(ref, force=True)
        self._refs.clear()
        ray.shutdown()


def _connect(address: str) -> None:
    import ray

    quiet: dict[str, Any] = {"include_dashboard": False} if not address else {}
    if not address:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        quiet |= {"num_cpus": usable_cores(), "resources": {MEASURE: 1}}
    else:
        _require_listening(address)
    try:
        ray.init(address=address or "local", log_to_driver=False, logging_level="ERROR", **quiet)
    except (ConnectionError, RuntimeError, ValueError, OSError) as error:
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise DeviceError(
            f"no Ray cluster answers at {address or 'this machine'}: {lines[0]}",
            do="check it with: ray status --address ADDRESS",
        ) from error


def _require_listening(address: str) -> None:
    """Raise within seconds where nothing listens; Ray itself would ask for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if address == "auto":
        return
    if not host or not port.isdecimal():
        raise UsageError(
            f"the address {address!r} is none of a Ray cluster", wanted="host:port, ray://host:port or auto"
        )
    try:
        socket.create_connection((host, int(port)), timeout=CONNECT_S).close()
    except (OSError, OverflowError) as error:
        raise DeviceError(
            f"no Ray cluster answers at {address}: {error}",
            do="start one with: ray start --head --port 6379, or leave --address out",
        ) from error


def _alive() -> list[dict[str, Any]]:
    import ray

    return [node for node in ray.nodes() if node["Alive"]]


def _require_place(trial: TrialConfig) -> None:
    """Raise UsageError where no node could ever hold a trial, which Ray would wait for."""
    needs = {"CPU": trial.cpus, "GPU": trial.gpus, "memory": trial.memory_gb * 1e9}
    nodes = [node["Resources"] for node in _alive()]
    if not any(all(node.get(name, 0) >= amount for name, amount in needs.items()) for node in nodes):
        offered = "; ".join(
            f"{node.get('CPU', 0):g} CPUs, {node.get('GPU', 0):g} GPUs, {node.get('memory', 0) / 1e9:.1f} GB"
            for node in nodes
        )
        raise UsageError(
            f"no node has {trial.cpus} CPUs, {trial.gpus} GPUs and {trial.memory_gb:g} GB for a trial: {offered}",
            do="ask for less below [trial], or join a larger machine",
        )


def _answered(ref: Any, name: str) -> NodeFacts:
    import ray

    try:
        facts: NodeFacts = ray.get(ref, timeout=LOOK_S)
    except (ray.exceptions.RayError, ModuleNotFoundError) as error:
        raise DeviceError(
            f"the node {name} cannot walk trials: {_told(error)}", wanted="slimdeploy with the extra ray on every node",
            do='pip install "slimdeploy[ray]" there',
        ) from error  # fmt: skip
    return facts


def _require_same(facts: Mapping[str, NodeFacts]) -> None:
    """Raise UsageError where a node differs from the driver's own, which comes first, or does not see the cache."""
    (_, own), *others = facts.items()
    for name, node in others:
        for package in BOUND_TO:
            if node.versions.get(package) != own.versions.get(package):
                raise UsageError(
                    f"the node {name} has {package} {node.versions.get(package, 'not at all')}, "
                    f"and this one {own.versions.get(package, 'not at all')}",
                    wanted="the same versions on every node, since others would train and measure otherwise",
                    do="install the same there, and join it again",
                )
        if not node.sees_cache:
            raise UsageError(
                f"the node {name} does not see the cache's folder", wanted="a folder that all nodes share, or a URL",
                do="name it with --cache",
            )  # fmt: skip


def _told(error: Exception) -> str:
    import ray

    if isinstance(error, ray.exceptions.OutOfMemoryError):
        return "memory ran out on its node"
    kinds = {"WorkerCrashedError": "its process died", "NodeDiedError": "its node went away"}
    kind = type(error).__name__
    lines = [line for line in str(error).splitlines() if line.strip()]
    return kinds.get(kind, f"{kind}: {lines[0] if lines else ''}")
