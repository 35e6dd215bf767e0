"""What times layers and whole networks for a latency table: this machine, or a board."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from slimdeploy.bench.environment import environment
from slimdeploy.bench.measure import measure
from slimdeploy.configs import BenchConfig, LatencyConfig, ShipConfig
from slimdeploy.devices.address import Address
from slimdeploy.latency.measure import Ask, worker_here
from slimdeploy.latency.on_board import BoardTimer
from slimdeploy.records import Artifact, Target
from slimdeploy.stages.ship import reached, require_board

ROUNDS = 6  # turns that whole networks take on this machine

Built = Sequence[tuple[str, Artifact]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Timer:
    """What a table is measured with.

    Attributes:
        where: the runtime here, or the board and what it runs.
        layer: times one convolution.
        wholes: gives the samples of whole networks, in seconds.
        environment: the machine's facts.
        device: the board's address, or "".
        simulated: whether recorded files stand for the board.
    """

    where: str
    layer: Ask
    wholes: Callable[[Built], list[Sequence[float]]]
    environment: Mapping[str, Any]
    device: str = ""
    simulated: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Board:
    """A board to measure on: where it is, and the time limits of reaching it."""

    address: Address
    shipping: ShipConfig = field(default_factory=ShipConfig)


@contextmanager
def timer_here(backend: str, config: LatencyConfig) -> Iterator[Timer]:
    """Give what measures on this machine, in worker processes; whole networks take turns."""

    def wholes(built: Built) -> list[Sequence[float]]:
        bench = BenchConfig(samples=config.samples, rounds=ROUNDS, threads=config.threads, timeout_s=config.timeout_s)
        return [one.samples_s for one in measure(built, bench, backend=backend)]

    with worker_here(config, backend) as ask:
        yield Timer(where=backend, layer=ask, wholes=wholes, environment=environment())


@contextmanager
def timer_on_board(on: Board, target: Target, config: LatencyConfig) -> Iterator[Timer]:
    """Give what measures on a board, in the runtime that runs models there.

    Raises:
        DeviceError: it cannot be reached, or is another board than the target.
    """
    address, shipping = on.address, on.shipping
    with reached(address, shipping) as board:
        facts = board.ask("look")
        wanted = {name: getattr(target, name) for name in ("name", "kind", "title", "tensorrt")}
        require_board({"target": wanted}, facts, address, shipping)
        timer = BoardTimer(board, config, shipping)

        def wholes(built: Built) -> list[Sequence[float]]:
            return [timer.whole(Path(artifact.path))["samples_s"] for _, artifact in built]

        yield Timer(
            where=f"{address.text}, {facts['board']['model']}, TensorRT {facts['tensorrt']}",
            layer=timer.layer,
            wholes=wholes,
            environment={name: facts[name] for name in ("board", "tensorrt", "python", "simulated")},
            device=address.text,
            simulated=facts["simulated"],
        )
