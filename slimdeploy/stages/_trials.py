"""Measure how much each group of channels matters to what a network finds, and what a whole plan does."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slimdeploy.channels import Coupling
from slimdeploy.configs import PruneConfig
from slimdeploy.errors import GateError
from slimdeploy.records import Sensitivity
from slimdeploy.stages.losses import trial_width
from slimdeploy.stages.plan import strongest
from slimdeploy.stages.widths import Unit

if TYPE_CHECKING:
    from torch import nn

    from slimdeploy.data.dataset import Dataset
    from slimdeploy.yolo.moments import Covariances

MACS = 8e11  # of all trials together, about a quarter of a minute on two cores; larger networks get smaller images
LEAST_SIDE = 128
ENOUGH_IMAGES = 8  # below that, images are made smaller instead of fewer
LEAST_IMAGES = 2  # at the least side
NAMED = 3  # groups that a refusal names
ANCHORS_AN_IMAGE = 1  # anchors that score, below which a network finds next to nothing and shows nothing of a plan

log = logging.getLogger("slimdeploy.prune")
Importance = Mapping[str, Sequence[float]]


class Trials:
    """A network on a few images, tried with some of its channels gone.

    Args:
        split: the network, split.
        coupling: its groups.
        units: what is narrowed together.
        importance: one value a channel, for every group by its name.
        images: the images, each (3, H, W), RGB in 0..1.
        covariances: of what layers read, where weights will be fitted anew after the cut: they make up for what goes
            in each trial, and a plan is judged when they are fitted. None judges it by its trial.
    """

    def __init__(
        self,
        split: nn.Module,
        coupling: Coupling,
        units: Sequence[Unit],
        importance: Importance,
        images: Sequence[Any],
        *,
        covariances: Covariances | None = None,
    ) -> None:
        import numpy as np
        import torch

        from slimdeploy.yolo.sensitivity import Trials as Outputs

        self._units, self._importance, self._final = units, importance, covariances is None
        self._few, self._doubtful = ANCHORS_AN_IMAGE * len(images), False
        self._outputs = Outputs(split, coupling, torch.from_numpy(np.stack(images)), covariances)

    @cached_property
    def alone(self) -> tuple[Sensitivity, ...]:
        """What narrowing each unit alone to its trial width does, in the order of the units."""
        return tuple(self._tried(unit, trial_width(unit)) for unit in self._units)

    def whole(self, widths: Mapping[str, int]) -> Sensitivity:
        """Return what a plan as a whole does, by its trial.

        Raises:
            GateError: there is no covariance, and the network found something on the images and finds nothing any more.
        """
        done = self._as_sensitivity(widths, self._outputs.without(self._gone(widths)))
        if self._final:
            self._require_positives(done, widths)
        return done

    def require_alive(self, widths: Mapping[str, int]) -> None:
        """Raise GateError as `whole` does; where weights will be fitted anew, nothing is tried yet."""
        if self._final:
            self.whole(widths)

    def rebuilt(self, network: nn.Module, widths: Mapping[str, int]) -> Sensitivity:
        """Return what a plan as a whole does once the weights that stay are fitted again, as they are in `network`."""
        return self._as_sensitivity(widths, self._outputs.beside(network))

    def _as_sensitivity(self, widths: Mapping[str, int], found: tuple[float, tuple[int, int]]) -> Sensitivity:
        damage, positives = found
        total = sum(unit.width * len(unit.names) for unit in self._units)
        return Sensitivity(
            groups=tuple(name for unit in self._units for name in unit.names if widths[name] < unit.width),
            width=total,
            tried=sum(widths[name] for unit in self._units for name in unit.names),
            damage=damage,
            positives=positives,
        )

    def _require_positives(self, done: Sensitivity, widths: Mapping[str, int]) -> None:
        before, after = done.positives
        if after:
            return
        if before < self._few:
            if not self._doubtful:
                log.warning(
                    "prune: the whole network finds next to nothing on these images (%d anchors score), so whether the "
                    "plan leaves anything is not checked; name the data that it was trained on with --data", before,
                )  # fmt: skip
            self._doubtful = True
            return
        raise self._refusal(widths, before)

    def worst(self, widths: Mapping[str, int]) -> str:
        """Return the groups whose narrowing alone takes most of what the network finds, for a person."""
        alone = [self._tried(unit, widths[unit.names[0]]) for unit in self._units]
        ranked = sorted(alone, key=lambda trial: (trial.positives[1], -trial.damage))[:NAMED]
        return ", ".join(f"{trial.groups[0]} ({trial.width} to {trial.tried} channels)" for trial in ranked)

    def _refusal(self, widths: Mapping[str, int], before: int) -> GateError:
        return GateError(
            f"the plan kills all positives: of {before} on the images, none is left; alone, these take most: "
            f"{self.worst(widths)}",
            wanted="a plan after which the network still finds something",
            do="ask for less, or take it in passes with fine-tuning between them (passes = 2 in a recipe), or "
            "give real images with --data, or ask for another --criterion",
        )

    def _tried(self, unit: Unit, width: int) -> Sensitivity:
        damage, positives = self._outputs.without(self._gone(dict.fromkeys(unit.names, width)))
        return Sensitivity(groups=unit.names, width=unit.width, tried=width, damage=damage, positives=positives)

    def _gone(self, widths: Mapping[str, int]) -> dict[str, list[int]]:
        return {
            name: sorted(set(range(len(self._importance[name]))) - set(strongest(self._importance[name], width)))
            for name, width in widths.items()
        }


def images_for(
    data: Path | None, classes: tuple[str, ...], coupling: Coupling, config: PruneConfig, units: int
) -> tuple[list[Any], str]:
    """Return the images that `units` trials of a network are made on, and what they are; see `trial_images`."""
    side, count = trial_size(coupling.macs(coupling.whole()), config.imgsz, config.images, units)
    images, source = trial_images(data, classes, side, count)
    return images, f"{len(images)} {source}, {side}x{side}"


def trial_size(macs: int, imgsz: int, images: int, units: int) -> tuple[int, int]:
    """Return the side of the input and the number of images that trials use, so that large networks stay bearable.

    Images become fewer first, then smaller, since what is small in them already vanishes.

    Args:
        macs: multiply-accumulates of one image at `imgsz`.
        imgsz: side of the square input, in pixels.
        images: how many are wanted.
        units: how many trials there will be.
    """

    def affordable(side: int) -> int:
        return int(MACS / (macs * (side / imgsz) ** 2 * units))

    side = imgsz
    while side > LEAST_SIDE and affordable(side) < min(images, ENOUGH_IMAGES):
        side -= 32
    return side, max(min(images, affordable(side)), min(images, LEAST_IMAGES))


def trial_images(data: Path | None, classes: tuple[str, ...], side: int, count: int) -> tuple[list[Any], str]:
    """Return images for trials, each (3, side, side), and where they come from.

    Args:
        data: YAML of a data set; its images to train on are taken, evenly spread, since what a network is judged by
            later must not shape it. None renders scenes.
        classes: the network's.
        side: of the square input, in pixels.
        count: how many.
    """
    from slimdeploy.board.letterbox import letterbox
    from slimdeploy.configs import SMALLEST_SCENE_PX, SceneConfig
    from slimdeploy.data import scenes
    from slimdeploy.data.dataset import read_dataset
    from slimdeploy.data.images import read_image

    if data is None:
        scene = SceneConfig(size_px=max(side, SMALLEST_SCENE_PX))
        pictures = [scenes.render(scene, "train", number)[0] for number in range(count)]
        return [letterbox(picture, (side, side))[0] for picture in pictures], scenes.NAME
    dataset = read_dataset(data, check_labels=False)
    dataset.require_classes(classes)
    paths = spread(dataset, count)
    return [letterbox(read_image(path), (side, side))[0] for path in paths], f"images of {dataset.name}"


def spread(dataset: Dataset, count: int) -> list[Path]:
    """Return images spread evenly over a data set's training split, or the val split where there is no other."""
    paths = dataset.images("train" if dataset.names_split("train") else "val")
    steps = min(len(paths), count)
    return [paths[i * len(paths) // steps] for i in range(steps)]
