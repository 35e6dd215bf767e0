"""One frozen dataclass per stage: every default lives here, once, with its reason."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from slimdeploy.board.frames import is_live
from slimdeploy.board.text import brief
from slimdeploy.errors import UsageError
from slimdeploy.fields import hints, mismatch
from slimdeploy.records import PRECISIONS

Config = TypeVar("Config")


def _check(holds: bool, wrong: str, wanted: str) -> None:
    if not holds:
        raise UsageError(wrong, wanted=wanted)


LARGEST_SIDE_PX = 16384  # of an input; what is larger does not fit into memory anyway
LARGEST_SEED = 2**32 - 1  # that numpy takes


def _check_seed(seed: int) -> None:
    _check(0 <= seed <= LARGEST_SEED, f"a seed of {seed}", f"0 to {LARGEST_SEED}")


def _check_side(side: int) -> None:
    fits = 32 <= side <= LARGEST_SIDE_PX and side % 32 == 0
    _check(fits, f"an input size of {side}", f"a multiple of 32, up to {LARGEST_SIDE_PX}")


def _check_least(least: float, **settings: float) -> None:
    for name, value in settings.items():
        _check(value >= least, f"{name} is {value}", f"{least} or more")


MOMENTUM = 0.937  # of SGD, and beta1 of AdamW: ultralytics' own


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainConfig:
    """What every training stage shares.

    Attributes:
        epochs: passes over the training split.
        imgsz: side of the square input, in pixels; a multiple of 32.
        batch: images that go through the network at once.
        accumulate: batches whose gradients are added up before the optimizer steps: `batch * accumulate` images a step.
        optimizer: an ultralytics optimizer name.
        lr0: learning rate after the warm-up.
        lrf: last learning rate as a share of lr0, reached along a cosine.
        warmup_epochs: epochs in which the learning rate rises.
        warmup_bias_lr: learning rate of biases when the warm-up starts. ultralytics' own default of 0.1 suits SGD
            and throws class biases about under AdamW, so it is 0 here.
        weight_decay: L2 penalty on convolution weights, as in YOLOv8's recipe.
        patience: epochs without a better mAP50-95 before training stops.
        close_mosaic: last epochs, trained without mosaic.
        workers: data-loader processes; on a CPU ultralytics uses none.
        device: `cpu`, `0`, `0,1`; empty takes the first GPU, or the CPU where there is none.
        amp: mixed precision: fp16 on CUDA, bfloat16 on a CPU that computes it natively, float32 elsewhere.
        seed: of weights, shuffling and augmentation.
    """

    epochs: int = 100
    imgsz: int = 640
    batch: int = 16
    accumulate: int = 1
    optimizer: str = "AdamW"
    lr0: float = 0.002
    lrf: float = 0.01
    warmup_epochs: float = 1.0
    warmup_bias_lr: float = 0.0
    weight_decay: float = 0.0005
    patience: int = 50
    close_mosaic: int = 10
    workers: int = 4
    device: str = ""
    amp: bool = True
    seed: int = 0

    def __post_init__(self) -> None:
        _check(self.epochs >= 1, f"{self.epochs} epochs", "1 or more")
        _check_side(self.imgsz)
        _check(self.batch >= 1, f"a batch of {self.batch}", "1 or more images")
        _check(self.accumulate >= 1, f"gradients accumulated over {self.accumulate} batches", "1 or more")
        _check(self.lr0 > 0, f"a learning rate of {self.lr0}", "more than 0")
        _check_least(0, lrf=self.lrf, warmup_epochs=self.warmup_epochs, warmup_bias_lr=self.warmup_bias_lr)
        _check_least(0, weight_decay=self.weight_decay, patience=self.patience, close_mosaic=self.close_mosaic)
        _check_least(0, workers=self.workers)
        _check_seed(self.seed)


@dataclass(frozen=True, slots=True, kw_only=True)
class DenseConfig(TrainConfig):
    """Training a dense network from new weights.

    Attributes:
        architecture: an ultralytics model YAML.
    """

    architecture: str = "yolov8n.yaml"


@dataclass(frozen=True, slots=True, kw_only=True)
class SparsifyConfig(TrainConfig):
    """Training with a sparsity penalty on BatchNorm scales (Network Slimming, Liu et al., ICCV 2017).

    Attributes:
        sr: strength of the penalty. Under the proximal form a scale can lose at most sr times the sum of all learning
            rates, and YOLOv8's scales start near 1: 0.02 suits some 8,000 steps, fewer steps want more. Under the
            subgradient form SGD's momentum adds up to 16 times as much, so a sixteenth pulls alike.
        penalty: `proximal` soft-thresholds the scales after the step (exact zeros, the same with every
            optimizer); `subgradient` adds sr * sign(gamma) to the gradient after unscaling and clipping.
        scope: `coupled` penalises scales in the groups in which their channels will be removed (group lasso);
            `layer` penalises each by itself, as the paper does.
        schedule: `constant`, or `decay` along a line to a tenth of sr in the last epoch.
        optimizer: SGD, as in the paper: Adam divides each scale's gradient by its size, which is what tells a needed
            channel from an unneeded one.
    """

    epochs: int = 20
    optimizer: str = "SGD"
    lr0: float = 0.01
    lrf: float = 0.1
    sr: float = 0.02
    penalty: str = "proximal"
    scope: str = "coupled"
    schedule: str = "constant"
    close_mosaic: int = 0

    def __post_init__(self) -> None:
        TrainConfig.__post_init__(self)
        _check(self.sr >= 0, f"a penalty strength sr of {self.sr}", "0 or more")
        _check(self.penalty in ("proximal", "subgradient"), f"a penalty {self.penalty!r}", "proximal or subgradient")
        _check(self.scope in ("coupled", "layer"), f"a scope {self.scope!r}", "coupled or layer")
        _check(self.schedule in ("constant", "decay"), f"a schedule {self.schedule!r}", "constant or decay")


def strength_at(settings: Mapping[str, Any], epoch: int, epochs: int) -> float:
    """Return the penalty's strength in an epoch.

    Args:
        settings: `sr` and `schedule`, as SparsifyConfig holds them.
        epoch: counted from 0.
        epochs: of the whole training.

    Source: a line to a tenth is what the YOLO forks of Network Slimming use: sr * (1 - 0.9 * epoch / epochs).
    """
    sr = float(settings["sr"])
    return sr * (1 - 0.9 * epoch / max(1, epochs - 1)) if settings["schedule"] == "decay" else sr


@dataclass(frozen=True, slots=True, kw_only=True)
class FinetuneConfig(TrainConfig):
    """Training a pruned network in its shape.

    Attributes:
        teacher_weight: weight of the distillation loss when there is a teacher (ultralytics' `dis`).
        scratch: draw new weights and keep the shape alone: the control of "Rethinking the Value of Network Pruning"
            (Liu et al., ICLR 2019), to be given the budget of all the stages that it stands against.
    """

    epochs: int = 30
    lr0: float = 0.001
    teacher_weight: float = 6.0
    scratch: bool = False

    def __post_init__(self) -> None:
        TrainConfig.__post_init__(self)
        _check_least(0, teacher_weight=self.teacher_weight)


SHARES = ("channels", "macs")  # budgets that are a share to remove
FIGURES = ("speedup", "latency_ms", "fps")  # budgets that are a figure to reach on the target
CRITERIA = ("reconstruction", "bn_gamma", "magnitude", "taylor", "random")


@dataclass(frozen=True, slots=True, kw_only=True)
class PruneConfig:
    """Deciding which channels go; exactly one of the first five is the budget.

    Attributes:
        channels: share of channels to remove, in 0..1; or None.
        macs: share of multiply-accumulates to remove, in 0..1; or None.
        speedup: how many times as fast as the given network on the target; or None.
        latency_ms: milliseconds an image on the target; or None.
        fps: images a second on the target; or None.
        alignment: widths are multiples of this.
        imgsz: side of the square input that MACs and latency are counted at, in pixels.
        tolerance: how far the share reached may lie from the share asked for.
        criterion: how the channels of a group are ranked: `reconstruction` by what the layers that read them could not
            make up for on images of a data set, `bn_gamma` by BatchNorm scales (Network Slimming),
            `magnitude` by the weights that make and read them, `taylor` by what the loss on real images would change,
            `random` as a control. Empty takes `reconstruction` where weights will be fitted anew, or else `bn_gamma`.
        precision: that the network will run at on the target, and is timed at: `fp32`, `fp16` or `int8`.
        least_share: of its channels that every group keeps when the budget is latency.
        latency_tolerance: how far the latency measured may lie from the one asked for, as a share of it.
        attempts: plans that are built and measured before the budget counts as out of reach.
        samples: timed calls of each artifact in an attempt.
        images: images that sensitivities are measured on, at most: of a large network fewer and smaller ones.
        reconstruct_images: training images of the data set on which the weights that stay are fitted anew, so that
            each layer gives what it gave before the cut; at most, of a large network fewer. 0, or no data set,
            leaves the weights as they are.
        least_agreement: least F1 score of what the cut network finds against what the whole one finds, once its weights
            are fitted; below it the cut is refused. A quarter, since then three in four detections are lost or wrong,
            which so far only plans did that left next to nothing of a network: see benchmarks/prune_fit.py. 0 refuses
            none.
        good_agreement: the same below which there is a warning: about what is left at three times the speed.
        seed: of the criterion `random`.
    """

    channels: float | None = None
    macs: float | None = None
    speedup: float | None = None
    latency_ms: float | None = None
    fps: float | None = None
    alignment: int = 8
    imgsz: int = 640
    tolerance: float = 0.02
    criterion: str = ""
    precision: str = "fp32"
    least_share: float = 0.125
    latency_tolerance: float = 0.05
    attempts: int = 6
    samples: int = 120
    images: int = 32
    reconstruct_images: int = 128
    least_agreement: float = 0.25
    good_agreement: float = 0.75
    seed: int = 0

    def __post_init__(self) -> None:
        names = [name for name in (*SHARES, *FIGURES) if getattr(self, name) is not None]
        count = ("no budget", "a single budget", "two budgets", *["several budgets"] * 3)[len(names)]
        _check(len(names) == 1, count, "one of --channels, --macs, --speedup, --latency-ms and --fps")
        budget, asked = self.budget
        if budget in SHARES:
            _check(0 <= asked < 1, f"a share of {asked}", "0 or more, and below 1")
        else:
            _check(0 < asked < float("inf"), f"a {budget} of {asked}", "more than 0")
        _check(self.alignment >= 1, f"an alignment of {self.alignment}", "1 or more channels")
        _check_side(self.imgsz)
        _check(self.criterion in (*CRITERIA, ""), f"a criterion {self.criterion!r}", f"one of {', '.join(CRITERIA)}")
        _check(self.precision in PRECISIONS, f"a precision {self.precision!r}", f"one of {', '.join(PRECISIONS)}")
        _check(0 <= self.least_share <= 1, f"a least share of {self.least_share}", "0 to 1")
        _check(0 <= self.least_agreement <= 1, f"a least agreement of {self.least_agreement}", "0 to 1")
        _check(0 <= self.good_agreement <= 1, f"a good agreement of {self.good_agreement}", "0 to 1")
        _check(self.attempts >= 1 and self.images >= 1, f"{self.attempts} attempts, {self.images} images", "1 or more")
        _check(self.samples >= 6, f"{self.samples} samples", "6 or more, one a round")
        fitted = self.criterion != "reconstruction" or self.reconstruct_images > 0
        _check(fitted, "the criterion reconstruction with 0 images to fit on", "1 or more, or another criterion")
        _check(self.reconstruct_images >= 0, f"{self.reconstruct_images} images to fit on", "1 or more, or 0 for none")
        _check_least(0, tolerance=self.tolerance, latency_tolerance=self.latency_tolerance)
        _check_seed(self.seed)

    @property
    def budget(self) -> tuple[str, float]:
        """The budget's name and what was asked for."""
        return next((n, float(v)) for n in (*SHARES, *FIGURES) if (v := getattr(self, n)) is not None)


@dataclass(frozen=True, slots=True, kw_only=True)
class LatencyConfig:
    """Measuring a latency table: every convolution of a network at every width worth measuring.

    Attributes:
        network: an ultralytics model YAML, for a table without a checkpoint.
        precision: of weights and activations, `fp32` or `fp16`.
        imgsz: side of the square input, in pixels; a multiple of 32.
        alignment: widths are multiples of this.
        threads: intra-op threads; 0 takes every core this process may use.
        layer_s: seconds of timed calls for each convolution.
        wholes: whole networks timed beside the sum of their layers, the dense one among them.
        samples: timed calls of each whole network.
        timeout_s: longest time for one answer of a worker.
        seed: of the whole networks' widths.
    """

    network: str = "yolov8n.yaml"
    precision: str = "fp32"
    imgsz: int = 640
    alignment: int = 8
    threads: int = 0
    layer_s: float = 0.02
    wholes: int = 6
    samples: int = 60
    timeout_s: float = 300.0
    seed: int = 0

    def __post_init__(self) -> None:
        _check(self.precision in ("fp32", "fp16"), f"a precision {self.precision!r}", "fp32 or fp16")
        _check_side(self.imgsz)
        _check(self.alignment >= 1, f"an alignment of {self.alignment}", "1 or more channels")
        _check(self.threads >= 0, f"{self.threads} threads", "0 or more")
        _check(self.layer_s > 0, f"{self.layer_s} s a layer", "more than 0")
        _check(self.wholes >= 2, f"{self.wholes} whole networks", "2 or more, since they fix a line")
        _check(self.samples >= 6, f"{self.samples} samples", "6 or more")
        _check(self.timeout_s > 0, f"a time limit of {self.timeout_s:g} s", "more than 0")
        _check_seed(self.seed)


def share_of_pass(config: PruneConfig, passes: int) -> PruneConfig:
    """Return what each of several passes removes, so that all of them together remove what the config asks for.

    Each pass takes the same share of what the one before it left, or is the same number of times as fast.

    Raises:
        UsageError: the budget is a latency or a frame rate, of which a pass has no part.
    """
    if passes == 1:
        return config
    budget, asked = config.budget
    _check(budget in (*SHARES, "speedup"), f"{passes} passes to a {budget}", "channels, macs or speedup")
    part = 1 - (1 - asked) ** (1 / passes) if budget in SHARES else asked ** (1 / passes)
    return dataclasses.replace(config, **{budget: part})


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportConfig:
    """Turning a checkpoint into ONNX.

    Attributes:
        precision: `fp32`, `fp16` or `int8`.
        imgsz: input height and width, in pixels; multiples of 32.
        batch: images a call; with `dynamic_batch` the most of them.
        dynamic_batch: whether a call may hold fewer images than `batch`.
        opset: of the graph; 0 takes what the target reads, at most 17.
        check_images: images on which the graph is compared with PyTorch.
        box_tolerance_px: largest shift of a box corner that still counts as equal, in pixels, and of boxes longer than
            100 px in hundredths of their longer side; int8 is judged by its accuracy instead.
        score_tolerance: largest change of a score that still counts as equal; not for int8.
        calibrator: rule by which int8 cuts activations off: `minmax`, `percentile` (99.99), `entropy` or `mse`.
        calibration_images: images of the training split that int8 ranges are measured on; 512, since accuracy gains
            little beyond that and a laptop measures them within two minutes.
        max_drop: points of mAP50-95 that int8 may lose against fp32, scored on the val split; None scores nothing.
        max_float_share: largest share of the multiply-accumulates that may return to float to keep within `max_drop`;
            with more, the graph would be int8 in name alone.
        seed: of the choice of calibration images.
        dropins: pipelines that the bundle brings files for: `deepstream`, `triton`, `ros2`.
        max_p90_ms: milliseconds that nine in ten calls may take on the board, whose check refuses slower ones; 0 sets
            no limit.
        max_power_mw: milliwatts that the board may draw meanwhile; 0 sets no limit.
    """

    precision: str = "fp32"
    imgsz: tuple[int, int] = (640, 640)
    batch: int = 1
    dynamic_batch: bool = False
    opset: int = 0
    check_images: int = 8
    box_tolerance_px: float = 1.0
    score_tolerance: float = 0.02
    calibrator: str = "percentile"
    calibration_images: int = 512
    max_drop: float | None = None
    max_float_share: float = 0.5
    seed: int = 0
    dropins: tuple[str, ...] = ()
    max_p90_ms: float = 0.0
    max_power_mw: float = 0.0

    def __post_init__(self) -> None:
        _check(self.max_p90_ms >= 0, f"a limit of {self.max_p90_ms} ms", "above 0 ms, or 0 for none")
        _check(self.max_power_mw >= 0, f"a limit of {self.max_power_mw} mW", "above 0 mW, or 0 for none")
        _check(self.precision in ("fp32", "fp16", "int8"), f"a precision {self.precision!r}", "fp32, fp16 or int8")
        _check(len(self.imgsz) == 2, f"an input size of {self.imgsz}", "height and width")
        for side in self.imgsz:
            _check_side(side)
        _check(self.batch >= 1, f"a batch of {self.batch}", "1 or more images")
        _check(self.opset == 0 or self.opset >= 13, f"opset {self.opset}", "13 or more, or 0 for what the target reads")
        _check(self.check_images >= 1, f"a check on {self.check_images} images", "1 or more")
        rules = ("minmax", "percentile", "entropy", "mse")
        _check(self.calibrator in rules, f"a calibrator {self.calibrator!r}", "minmax, percentile, entropy or mse")
        _check(self.calibration_images >= 1, f"{self.calibration_images} images to calibrate on", "1 or more")
        _check(self.max_drop is None or self.max_drop >= 0, f"a max_drop of {self.max_drop} points", "0 or more")
        unknown = [name for name in self.dropins if name not in ("deepstream", "triton", "ros2")]
        _check(not unknown, f"the drop-ins {', '.join(self.dropins)}", "some of deepstream, triton and ros2")
        _check(0 <= self.max_float_share <= 1, f"a float share of {self.max_float_share}", "a share in 0..1")
        _check_least(0, box_tolerance_px=self.box_tolerance_px, score_tolerance=self.score_tolerance)
        _check_seed(self.seed)


@dataclass(frozen=True, slots=True, kw_only=True)
class GoldenConfig:
    """The golden sample of a bundle, on which a board proves its engine.

    Attributes:
        conf: lowest score of a box that a board must find, as ultralytics predicts.
        iou: NMS overlap above which the weaker box goes.
        max_det: boxes kept.
        box_px: how far a corner may move on the board, in pixels of the input.
        score: how far a score may move.
        margin: the same at most as a share of the lowest score, for networks whose scores are all small.
    """

    conf: float = 0.25
    iou: float = 0.7
    max_det: int = 300
    box_px: float = 1.0
    score: float = 0.02
    margin: float = 0.2

    @classmethod
    def of(cls, precision: str) -> GoldenConfig:
        """Return what suits a precision: int8 kernels of two runtimes round each layer's sums in their own ways."""
        tolerances = {"fp16": (2.0, 0.04), "int8": (4.0, 0.1)}
        box_px, score = tolerances.get(precision, (cls().box_px, cls().score))
        return cls(box_px=box_px, score=score)


@dataclass(frozen=True, slots=True, kw_only=True)
class ValConfig:
    """Scoring detections, with ultralytics' own settings for validation.

    Attributes:
        split: which split of the data set.
        conf: lowest confidence of a candidate.
        iou: NMS overlap above which the weaker box goes.
        max_det: boxes kept an image.
        imgsz: side of the square input for a .pt, in pixels; an ONNX brings its own.
    """

    split: str = "val"
    conf: float = 0.001
    iou: float = 0.7
    max_det: int = 300
    imgsz: int = 640

    def __post_init__(self) -> None:
        _check(self.max_det >= 1, f"{self.max_det} boxes an image", "1 or more")
        _check(0 <= self.conf < 1, f"a lowest confidence of {self.conf}", "0 or more, and below 1")
        _check(0 < self.iou <= 1, f"an NMS overlap of {self.iou}", "above 0, up to 1")
        _check(1 <= self.imgsz <= LARGEST_SIDE_PX, f"an input size of {self.imgsz}", f"1 to {LARGEST_SIDE_PX} px")


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchConfig:
    """Measuring latency: synchronous single-stream, one artifact a process, interleaved.

    Attributes:
        samples: timed calls of each artifact, at least.
        duration_s: seconds of timed calls of each artifact, at least; 0 leaves it to `samples`.
        rounds: turns in which the artifacts are interleaved, so that drift hits all alike.
        threads: intra-op threads; 0 takes every core this process may use.
        batch: images a call.
        warmup_limit_s: longest warm-up; it ends earlier, once the median is stable.
        timeout_s: longest time for one answer of a worker, beyond what it was asked to take.
        seed: of the input.
        end_to_end: time also from decoded frame to final boxes.
        fps: frames offered a second, as by a camera; 0 offers none.
        offered_s: for how long frames are offered, in seconds.
        profile: ask the runtime's own profiler for the time of each layer.
        idle_s: for how long power is measured while nobody works, where there is a meter, in seconds.
        backend: runtime for every model; empty takes the default of each file's format.
        val: how detections are scored where there is data, and the input size of a .pt.
    """

    samples: int = 200
    rounds: int = 10
    threads: int = 0
    batch: int = 1
    warmup_limit_s: float = 10.0
    timeout_s: float = 300.0
    seed: int = 0
    duration_s: float = 0.0
    end_to_end: bool = False
    fps: float = 0.0
    offered_s: float = 10.0
    profile: bool = False
    idle_s: float = 2.0
    backend: str = ""
    val: ValConfig = field(default_factory=ValConfig)

    def __post_init__(self) -> None:
        _check(self.rounds >= 1, f"{self.rounds} rounds", "1 or more")
        _check(
            self.samples >= self.rounds,
            f"{self.samples} samples in {self.rounds} rounds",
            f"{self.rounds} or more samples, one a round",
        )
        _check(self.threads >= 0, f"{self.threads} threads", "0 or more")
        _check(self.duration_s >= 0, f"a duration of {self.duration_s} s", "0 or more")
        _check(self.fps >= 0, f"{self.fps} frames a second", "more than 0")
        _check(self.offered_s > 0, f"frames offered for {self.offered_s} s", "more than 0")
        _check(self.timeout_s > 0, f"a time limit of {self.timeout_s:g} s", "more than 0")
        _check(self.batch >= 1, f"a batch of {self.batch}", "1 or more images")
        _check_least(0, warmup_limit_s=self.warmup_limit_s, idle_s=self.idle_s)
        _check_seed(self.seed)


RIGOROUS_S = 600.0  # what MLPerf's SingleStream asks for at least
SMALLEST_SCENE_PX = 64  # below that, what a scene shows is no object any more; smaller inputs get it scaled down


@dataclass(frozen=True, slots=True, kw_only=True)
class SceneConfig:
    """Rendering aerial scenes for the demo.

    Attributes:
        train: images to train on.
        val: images to score on.
        size_px: side of each square image, in pixels; at 7 to 9 px a metre.
        seed: of everything; the same seed gives the same files.
    """

    train: int = 240
    val: int = 60
    size_px: int = 192
    seed: int = 0

    def __post_init__(self) -> None:
        _check(self.train >= 1 and self.val >= 1, f"{self.train} + {self.val} images", "1 or more in each split")
        smallest = SMALLEST_SCENE_PX
        _check(self.size_px >= smallest, f"an image of {self.size_px} px", f"{smallest} px or more")
        _check(self.seed >= 0, f"a seed of {self.seed}", "0 or more")


@dataclass(frozen=True, slots=True, kw_only=True)
class VisdroneConfig:
    """Turning a VisDrone-DET download into a data set.

    Attributes:
        tile: side of the tiles that bigger images are cut into, in pixels; 0 leaves them whole.
        overlap: least share of a tile that its neighbour shows too: with 0.2 of 640 px, an object of up to 128 px is
            whole in one of them.
        mask_ignored: paint the ignored regions of training images grey, since they hold objects that nobody labelled,
            which a detector would be taught to miss. Labelled objects in them stay visible; other splits stay whole.
    """

    tile: int = 0
    overlap: float = 0.2
    mask_ignored: bool = False

    def __post_init__(self) -> None:
        _check(self.tile == 0 or self.tile >= 64, f"tiles of {self.tile} px", "64 px or more, or 0 for whole images")
        _check(0 <= self.overlap <= 0.9, f"an overlap of {self.overlap}", "a share in 0..0.9")


@dataclass(frozen=True, slots=True, kw_only=True)
class ShipConfig:
    """Bringing a bundle to a board.

    Attributes:
        keep: releases before the current one that stay on the board.
        python: the Python of the board, 3.8 or newer.
        connect_timeout_s: longest time for a connection to come about.
        answer_timeout_s: longest time for an answer that needs no work on the board; slow cards take seconds to hash.
        stall_timeout_s: longest silence of a connection or a transfer.
        silence_s: after which the board takes a desk for lost and frees its lock; a desk that works speaks every 10 s.
        build_timeout_s: longest time for the engine; TensorRT builds for many minutes on the small boards.
        check_timeout_s: longest time for the golden sample.
        bench_timeout_s: longest time for a measurement.
        rate_kbps: most that a transfer takes of a shared radio link, in kB/s; 0 takes all.
        spare_mib: what stays free on the board beside the bundle and its engine.
        engine_factor: room for the engine and what its build needs, in sizes of the bundle.
        force_target: ship to a board that the bundle was not made for.
        service_source: live source that a service on the board shall watch; "" installs none.
        udev_rule: let a udev rule start that service when its camera appears.
    """

    keep: int = 2
    python: str = "python3"
    connect_timeout_s: float = 10.0
    answer_timeout_s: float = 60.0
    stall_timeout_s: float = 30.0
    silence_s: float = 120.0
    build_timeout_s: float = 3600.0
    check_timeout_s: float = 600.0
    bench_timeout_s: float = 1800.0
    rate_kbps: int = 0
    spare_mib: int = 64
    engine_factor: float = 3.0
    force_target: bool = False
    service_source: str = ""
    udev_rule: bool = False

    def __post_init__(self) -> None:
        wanted = "a camera, a stream's address or a GStreamer pipeline"
        _check(not self.service_source or is_live(self.service_source), f"a service on {self.service_source!r}", wanted)
        _check(
            bool(self.service_source) or not self.udev_rule, "a udev rule without a service", "--install-service, too"
        )
        _check(self.keep >= 0, f"{self.keep} releases to keep", "0 or more")
        _check(bool(self.python) and not self.python.startswith("-"), f"a Python called {self.python!r}", "a program")
        _check(self.rate_kbps >= 0, f"a rate of {self.rate_kbps} kB/s", "0 or more")
        limits = (self.connect_timeout_s, self.answer_timeout_s, self.build_timeout_s, self.check_timeout_s)
        _check(
            min(*limits, self.stall_timeout_s, self.silence_s, self.bench_timeout_s) > 0,
            "a time limit of 0 s",
            "above 0 s",
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetConfig:
    """Bringing a bundle to many boards.

    Attributes:
        parallel: boards that are shipped to at the same time.
        max_failures: boards that may fail before no further one is begun; a canary's failure always stops the rest.
        group: the group that is meant; "" means all boards.
        ship: how each board is shipped to.
    """

    parallel: int = 4
    max_failures: int = 0
    group: str = ""
    ship: ShipConfig = field(default_factory=ShipConfig)

    def __post_init__(self) -> None:
        _check(self.parallel >= 1, f"{self.parallel} boards at a time", "1 or more")
        _check(self.max_failures >= 0, f"{self.max_failures} failures allowed", "0 or more")


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchConfig:
    """Choosing what to try next, and when to stop.

    Attributes:
        sampler: `tpe`, `nsga2` or `random`, each Optuna's.
        seed: of the sampler; what is trained has the recipe's own seed.
        batch: trials that are chosen at once, before any of them has ended: so what is chosen does not hang on how many
            run side by side, nor on which ends first.
        trials: that are to end, failed ones included.
        hours: after which no further trial begins; None sets no limit.
    """

    sampler: str = "tpe"
    seed: int = 0
    batch: int = 4
    trials: int = 20
    hours: float | None = None

    def __post_init__(self) -> None:
        known = ("tpe", "nsga2", "random")
        _check(self.sampler in known, f"a sampler {self.sampler!r}", "tpe, nsga2 or random")
        _check(self.seed >= 0, f"a seed of {self.seed}", "0 or more")
        _check(self.batch >= 1, f"batches of {self.batch} trials", "1 or more")
        _check(self.trials >= 1, f"{self.trials} trials", "1 or more")
        _check(self.hours is None or self.hours > 0, f"{self.hours} hours", "more than 0")


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialConfig:
    """What one trial of a search may take.

    Attributes:
        cpus: cores, which are also the threads of its trainings; measuring takes all. 0 takes all of this machine, and
            with Ray one.
        gpus: GPUs; ultralytics trains on several of them together.
        memory_gb: memory that Ray keeps free for it, in GB; 0 keeps none.
        minutes: longest time for one trial, waiting for others left out; 0 sets no limit.
        retries: how often a trial whose process died or whose machine went away is begun again.
        device: the board that latency is measured on, such as `ssh://pilot@drone-1`; "" measures on this machine.
    """

    cpus: int = 0
    gpus: int = 0
    memory_gb: float = 0.0
    minutes: float = 0.0
    retries: int = 1
    device: str = ""

    def __post_init__(self) -> None:
        _check(self.cpus >= 0, f"{self.cpus} CPUs a trial", "0 or more")
        _check(self.gpus >= 0, f"{self.gpus} GPUs a trial", "0 or more")
        _check(self.memory_gb >= 0, f"{self.memory_gb} GB a trial", "0 or more")
        _check(self.minutes >= 0, f"{self.minutes} minutes a trial", "0 or more")
        _check(self.retries >= 0, f"{self.retries} retries", "0 or more")


def build(config: type[Config], *layers: Mapping[str, Any], where: str = "") -> Config:
    """Return a config from layers of settings, the strongest first; None and missing keys fall through.

    Args:
        config: the config dataclass.
        layers: settings by field name: flags, then a recipe's section, then what a target says.
        where: what a message puts in front of a setting's name, such as "prune.".

    Raises:
        UsageError: a layer names a setting that the stage lacks, or a value is of another type or out of range.
    """
    settings: dict[str, Any] = {}
    for layer in reversed(layers):
        require_settings(config, layer, where=where)
        settings |= {name: tuple(value) if isinstance(value, list) else value for name, value in layer.items()
                     if value is not None}  # fmt: skip
    try:
        return config(**settings)
    except UsageError as error:
        said = f"{where.rstrip('.')}: {error.wrong}" if where else error.wrong
        raise UsageError(said, wanted=error.wanted, do=error.do) from error


def require_settings(config: type[Any], settings: Mapping[str, Any], *, where: str = "") -> None:
    """Raise UsageError for a setting that a config lacks, or that is not of the type of the config's field.

    Args:
        config: the config dataclass.
        settings: by field name; None stands for a setting that was not given.
        where: what a message puts in front of a setting's name.
    """
    known = hints(config)
    for name, value in settings.items():
        if name not in known:
            raise UsageError(f"unknown setting {brief(f'{where}{name}')}", wanted=f"one of {', '.join(sorted(known))}")
        if value is None:
            continue
        if found := mismatch(known[name], value, f"{where}{name}"):
            raise UsageError(found.wrong, wanted=found.wanted)
        if isinstance(value, str) and not value.isprintable():
            raise UsageError(f"{where}{name} is {brief(value)}", wanted="a text without control characters")
