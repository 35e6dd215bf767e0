"""What travels between stages: small frozen records, checked once on the way in.

Every record turns into JSON with `as_json`; the room that reads one back checks what it reads. Raw samples are kept,
means and strings are made only where they are shown.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from slimdeploy.errors import UsageError

PRECISIONS = ("fp32", "fp16", "int8")
TARGET_KINDS = ("cpu", "cuda", "jetson")
MIN_IMAGES = 20  # with fewer, resampled choices of images are too alike to tell how far another choice would lie


def as_json(record: Any) -> dict[str, Any]:
    """Return a record as a JSON-ready object; `record` is any dataclass of this module."""
    plain: dict[str, Any] = dataclasses.asdict(record)
    return plain


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A board or a host that a model is made for; one file under targets/ each.

    Attributes:
        name: the file's name without `.toml`, as given to `--target`.
        title: what a person calls it.
        kind: `cpu`, `cuda` or `jetson`.
        runtime: what runs the model there: `onnxruntime`, `openvino` or `tensorrt`.
        precisions: what the hardware gains from, out of fp32, fp16 and int8.
        alignment: channels in a group that the hardware computes together, by precision; widths are multiples.
        opset: highest ONNX opset that every listed TensorRT (or the runtime) accepts.
        sm: CUDA compute capability, such as "8.7".
        parts: part numbers of the modules, such as "p3767-0003".
        memory_gb: memory, in GB, shared by CPU and GPU on a Jetson.
        bandwidth_gbs: memory bandwidth, in GB/s.
        gpu_max_mhz: highest GPU clock, in MHz.
        gmacs_per_s: effective rate of convolutions by precision, in 10^9 multiply-accumulates a second, fitted to
            published measurements (benchmarks/board_model.py); None where there are none.
        launch_us: what a layer costs however small it is, in microseconds, fitted likewise.
        jetpack: JetPack versions that run on the board.
        tensorrt: TensorRT versions that those bring.
        dla_cores: deep-learning accelerators, or None where no source confirms their number; which TensorRT versions
            use them stands in the notes.
        power_modes: names as nvpmodel knows them (its numbers differ between releases).
        notes: caveats, each a sentence.
    """

    name: str
    title: str
    kind: str
    runtime: str
    precisions: tuple[str, ...]
    alignment: Mapping[str, int]
    opset: int
    sm: str | None = None
    parts: tuple[str, ...] = ()
    memory_gb: float | None = None
    bandwidth_gbs: float | None = None
    gpu_max_mhz: float | None = None
    gmacs_per_s: Mapping[str, int] | None = None
    launch_us: float | None = None
    jetpack: tuple[str, ...] = ()
    tensorrt: tuple[str, ...] = ()
    dla_cores: int | None = None
    power_modes: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSpec:
    """How to feed a network and read its outputs; what ONNX metadata and manifests carry.

    Attributes:
        task: `detect`, `segment`, `pose`, `obb` or `classify`.
        classes: class names, in label order.
        imgsz: input height and width, in pixels; each a multiple of `stride`.
        stride: largest stride of the network, in pixels.
        batch: images a call; with `dynamic_batch` the most of them.
        dynamic_batch: whether a call may hold fewer images.
        outputs: shape of each output by its name, as a graph states it; empty for a checkpoint, which states none.
    """

    task: str
    classes: tuple[str, ...]
    imgsz: tuple[int, int]
    stride: int = 32
    batch: int = 1
    dynamic_batch: bool = False
    outputs: Mapping[str, tuple[int, ...]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """What is known of a .pt file without running it.

    Attributes:
        path: the file.
        sha256: of its bytes.
        task: `detect`, `segment`, `pose`, `obb` or `classify`.
        classes: class names, in label order.
        stride: largest stride, in pixels.
        parameters: scalars that training changes, before BatchNorm is folded.
        size_bytes: size of the file.
        pruned: whether slimdeploy removed channels from it.
        planned_latency: what its plan said of latency (a `PlannedLatency` as JSON, without `saved_ms`), or None where
            it was not planned to one.
        kpt_shape: of a pose network: keypoints, and values a keypoint; or None.
    """

    path: str
    sha256: str
    task: str
    classes: tuple[str, ...]
    stride: int
    parameters: int
    size_bytes: int
    pruned: bool
    planned_latency: Mapping[str, Any] | None = None
    kpt_shape: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedGroup:
    """Coupled channels that stay or go together.

    Attributes:
        name: the first convolution that makes these channels.
        width: channels before.
        kept: positions that stay; increasing, in 0..width-1.
        layers: every convolution that makes these channels.
        tied_to: the group that must keep equally many (the two halves of a block that chunks), or "".
    """

    name: str
    width: int
    kept: tuple[int, ...]
    layers: tuple[str, ...]
    tied_to: str = ""

    def __post_init__(self) -> None:
        if (
            not self.kept
            or self.kept[0] < 0
            or self.kept[-1] >= self.width
            or list(self.kept) != sorted(set(self.kept))
        ):
            raise UsageError(f"group {self.name} keeps positions that are no increasing list in 0..{self.width - 1}")


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptWhole:
    """A layer that keeps its width, and why."""

    layer: str
    width: int
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Sensitivity:
    """What narrowing groups alone does to the outputs of a network, measured on a few images.

    Attributes:
        groups: the groups that were narrowed together (one, or the two halves of a C2f).
        width: channels of each before.
        tried: channels of each that the trial kept.
        damage: how far scores and boxes moved: 0 not at all, about 1 when every score is gone.
        positives: anchors with a score that counts, before and in the trial.
    """

    groups: tuple[str, ...]
    width: int
    tried: int
    damage: float
    positives: tuple[int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassAgreement:
    """How far two networks agree on one class.

    Attributes:
        name: of the class.
        dense: boxes of the unchanged network.
        changed: boxes of the changed network.
        matched: boxes that match.
    """

    name: str
    dense: int
    changed: int
    matched: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DetectionAgreement:
    """How far a changed network finds what the unchanged one finds, on images that no weight was fitted on.

    Attributes:
        images: images compared.
        dense: boxes of the unchanged network, at the confidence of a prediction; of a classifier, its answers.
        changed: boxes of the changed network.
        matched: boxes of the same class that overlap by an IoU of 0.5 or more, each counted once.
        score_change: mean absolute change of the score of the boxes that match.
        by_class: the same counts by class, of classes that either network finds.
        map50_95: of both networks, where the images have labels; or None.
    """

    images: int
    dense: int
    changed: int
    matched: int
    score_change: float
    by_class: tuple[ClassAgreement, ...] = ()
    map50_95: tuple[float, float] | None = None

    @property
    def share(self) -> float:
        """The F1 score of the changed network's boxes against the unchanged one's, in 0..1."""
        return 2 * self.matched / max(self.dense + self.changed, 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedLatency:
    """What a plan does to latency, as planned and as measured.

    Attributes:
        target: name of the target.
        precision: of the artifact.
        source: where the milliseconds of layers come from.
        estimated: whether that is the model of a board, so that nothing was measured.
        asked_ms: latency that was asked for.
        planned_ms: of the whole network, before and after, as the plan reckons.
        measured_ms: medians of the built artifacts, before and after, timed in turns; None where nothing was measured.
        speedup: how many times as fast: the median over the rounds where it was measured.
        saved_ms: milliseconds that each convolution saves, as the plan reckons.
        speedup_interval: 95 % interval of `speedup` over the rounds; None where nothing was measured.
    """

    target: str
    precision: str
    source: str
    estimated: bool
    asked_ms: float
    planned_ms: tuple[float, float]
    measured_ms: tuple[float, float] | None
    speedup: float
    saved_ms: Mapping[str, float]
    speedup_interval: tuple[float, float] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PrunePlan:
    """Which channels stay, for every group of coupled channels. Holds no weights; replayable.

    Attributes:
        weights_sha256: the checkpoint that the plan was made for.
        imgsz: input height and width that MACs are counted at, in pixels.
        criterion: how channels were ranked.
        budget: what was asked: a share of the `channels` or `macs`, or `speedup`, `latency_ms` or `fps`.
        asked: the share asked for, in 0..1, or the figure.
        reached: the share that the plan removes, in 0..1, or the figure, measured or, as `latency` says, estimated.
        alignment: widths are multiples of this many channels.
        groups: every group, cut or not.
        kept_whole: layers that were left alone, with the reason.
        parameters: before and after.
        macs: multiply-accumulates of one image before and after.
        latency: what the plan does to latency, where that was the budget.
        sensitivities: what narrowing each group alone does, where that was measured.
        whole: what the plan as a whole does, likewise; where weights will be fitted anew, with the layers behind making
            up for what goes.
        reconstruct_images: images that weights are fitted on after the cut, at most, where there is a data set.
        rebuilt: what the plan as a whole does once they are fitted; None where they were not.
        agreement: how far the network with fitted weights finds what the whole one finds; None where weights were not
            fitted, or where the whole one finds too little to compare with.
    """

    weights_sha256: str
    imgsz: tuple[int, int]
    criterion: str
    budget: str
    asked: float
    reached: float
    alignment: int
    groups: tuple[PlannedGroup, ...]
    kept_whole: tuple[KeptWhole, ...]
    parameters: tuple[int, int]
    macs: tuple[int, int]
    latency: PlannedLatency | None = None
    sensitivities: tuple[Sensitivity, ...] = ()
    whole: Sensitivity | None = None
    reconstruct_images: int = 0
    rebuilt: Sensitivity | None = None
    agreement: DetectionAgreement | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Artifact:
    """A model file that a backend can open.

    Attributes:
        path: the file.
        format: `pt` or `onnx`.
        precision: `fp32`, `fp16` or `int8`.
        sha256: of its bytes.
        spec: how to feed it.
        parameters: scalars in its weights.
        macs: multiply-accumulates of one image.
        size_bytes: size of the file.
    """

    path: str
    format: str
    precision: str
    sha256: str
    spec: ModelSpec
    parameters: int
    macs: int
    size_bytes: int


INFERENCE = "inference"  # the bare session call: no image reading, no NMS
END_TO_END = "end to end"  # decoded frame to final boxes: letterbox, normalise, infer, decode, NMS


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """Timed calls of one artifact in a worker process of its own; seconds throughout.

    Attributes:
        artifact: name shown for it.
        sha256: of the artifact's bytes.
        backend: runtime that ran it.
        scope: what was timed: `inference` is the bare session call, `end to end` goes from decoded frames to final
            boxes.
        threads: intra-op threads.
        batch: images a call.
        samples_s: seconds a call, in call order, warm-up excluded; shape (n,), n >= 1, each > 0.
        load_s: from opening the file to a ready session.
        first_s: the first call.
        warmup_s: calls made until the median settled; shape (m,).
        rounds: how `samples_s` splits into the interleaved rounds: samples of each round, summing to n.
        peak_memory_mib: peak resident memory of the worker, or None where the system does not tell.
        environment: machine and versions.
        warnings: what a reader must know before trusting the figure.
        device_memory_mib: memory that the model took on a device of its own, or None where there is none.
    """

    artifact: str
    sha256: str
    backend: str
    scope: str
    threads: int
    batch: int
    samples_s: tuple[float, ...]
    load_s: float
    first_s: float
    warmup_s: tuple[float, ...]
    rounds: tuple[int, ...]
    peak_memory_mib: float | None
    environment: Mapping[str, Any]
    warnings: tuple[str, ...] = ()
    device_memory_mib: float | None = None

    def __post_init__(self) -> None:
        if not self.samples_s or min(self.samples_s) <= 0:
            raise UsageError("a measurement needs one or more samples, each above 0 s")


@dataclass(frozen=True, slots=True, kw_only=True)
class Accuracy:
    """Detection scores on one data split, each in 0..1.

    Attributes:
        map50: mean AP at IoU 0.50.
        map50_95: mean AP over IoU 0.50 to 0.95 in steps of 0.05.
        precision: at the confidence of the best F1, IoU 0.50, mean over classes.
        recall: as `precision`.
        per_class: AP50-95 of each class that the split holds, by name.
        images: images scored.
        boxes: ground-truth boxes.
        data: name of the data set and split, as shown.
        rendered: whether the images are rendered scenes, not photographs.
        metric: whose rules were followed, as shown; with VisDrone's, `map50` and `map50_95` are its official figures.
        figures: whatever else those rules report, by name, each in 0..1.
    """

    map50: float
    map50_95: float
    precision: float
    recall: float
    per_class: Mapping[str, float]
    images: int
    boxes: int
    data: str
    rendered: bool = False
    metric: str = "COCO metric"
    figures: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """A difference of mAP50-95 between two models on the same images, in points (hundredths).

    Attributes:
        points: the difference on all images; above 0, the second model is the more accurate one.
        low: lower end of the 95 % interval, over which images the split holds.
        high: upper end of the 95 % interval.
        images: images that it rests on.
        resamples: choices of images that the interval was taken from.
    """

    points: float
    low: float
    high: float
    images: int
    resamples: int

    @property
    def enough(self) -> bool:
        """Whether there were images enough for an interval to mean anything."""
        return self.images >= MIN_IMAGES

    @property
    def shown(self) -> bool:
        """Whether a difference is shown: enough images, and an interval that does not hold 0."""
        return self.enough and not self.low <= 0 <= self.high


@dataclass(frozen=True, slots=True, kw_only=True)
class Offered:
    """Frames offered at a camera's rate, whether the detector was ready or not.

    Attributes:
        fps: frames captured a second.
        frames: frames captured.
        dropped: frames that nobody looked at, since a newer one was there first.
        late: frames whose result came after the next frame's capture.
        latency_s: from capture to result (decoded frame to final boxes), of each frame looked at, in order; shape (n,).
    """

    fps: float
    frames: int
    dropped: int
    late: int
    latency_s: tuple[float, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Power:
    """What one meter said while a model ran; figures of different rails must not be compared.

    Attributes:
        meter: `jetson`, `nvml` or `rapl`.
        rails: what the meter adds up.
        idle_w: mean while all workers waited, in watts.
        mean_w: mean while the model ran, in watts.
        joules_an_image: energy for each image, idle taken off.
        samples: seconds since the measurement began, and watts, while the model ran; shape (n, 2).
    """

    meter: str
    rails: tuple[str, ...]
    idle_w: float
    mean_w: float
    joules_an_image: float
    samples: tuple[tuple[float, float], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerTime:
    """Time of one layer as the runtime's own profiler tells it.

    Attributes:
        name: as the runtime calls it, after its fusions.
        operator: what it computes.
        seconds: mean of a call.
        width: channels of its output as the runtime computes them, or None where the profiler does not tell.
    """

    name: str
    operator: str
    seconds: float
    width: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One model in a comparison; what was not measured is None, never 0.

    Attributes:
        name: `dense`, `sparse`, `pruned`, `tuned`, or the name of an export.
        file: name of the file that was scored and timed.
        format: `pt` or `onnx`.
        precision: `fp32`, `fp16` or `int8`.
        parameters: scalars in the weights.
        size_bytes: size of the file.
        macs: multiply-accumulates of one image.
        accuracy: scores, or None.
        latency: timed calls of the bare session, or None.
        difference: of its accuracy from the first row's, or None.
        end_to_end: timed calls from decoded frame to final boxes, or None.
        offered: frames offered at a camera's rate, or None.
        power: what each meter said.
        layers: time of each layer, in the order that they run; () where none was asked for.
    """

    name: str
    file: str
    format: str
    precision: str
    parameters: int
    size_bytes: int
    macs: int
    accuracy: Accuracy | None = None
    latency: Measurement | None = None
    difference: Interval | None = None
    end_to_end: Measurement | None = None
    offered: Offered | None = None
    power: tuple[Power, ...] = ()
    layers: tuple[LayerTime, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """One detection in a scene.

    Attributes:
        xyxy: corners, in pixels of the image file.
        score: in 0..1.
        label: class number.
        right: whether it stands for an object of its class.
    """

    xyxy: tuple[float, float, float, float]
    score: float
    label: int
    right: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What one model found in a scene.

    Attributes:
        found: detections, best score first.
        missed: corners of the objects that no box stands for, in pixels of the image file.
    """

    found: tuple[Found, ...]
    missed: tuple[tuple[float, float, float, float], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """One image of the split, made small to be shown, and what the models found in it.

    Attributes:
        file: the image's name.
        size: height and width of the image file, in pixels.
        why: `typical`, or `worst` for one of the images with the most mistakes.
        jpeg: the small image, in base64.
        seen: what each model found, by its name.
    """

    file: str
    size: tuple[int, int]
    why: str
    jpeg: str
    seen: Mapping[str, Seen]


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """What the figures of accuracy rest on, to be drawn.

    Attributes:
        classes: class names, in label order.
        precision: at IoU 0.50 and each of the recalls 0, 0.01 to 1, mean over classes, by model; 101 each.
        confusion: by model: rows are what the images hold, columns what was found; last of both is nothing.
        judged: the model whose mistakes chose the scenes.
        scenes: images to look at.
    """

    classes: tuple[str, ...]
    precision: Mapping[str, tuple[float, ...]]
    confusion: Mapping[str, tuple[tuple[int, ...], ...]]
    judged: str = ""
    scenes: tuple[Scene, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """A comparison of models, from which every shown form is made.

    Attributes:
        title: heading.
        rows: models, the one that the others are compared with first.
        widths: convolution widths (layer, before, after), when a plan is part of the run.
        lineage: run.json records of the stages, in order.
        notes: sentences a reader must see.
        evaluation: what the figures of accuracy rest on, or None.
    """

    title: str
    rows: tuple[Row, ...]
    widths: tuple[tuple[str, int, int], ...] = ()
    lineage: tuple[Mapping[str, Any], ...] = ()
    notes: tuple[str, ...] = field(default=())
    evaluation: Evaluation | None = None
