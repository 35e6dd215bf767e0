"""VisDrone's official protocol: each quirk on its own, and all of it against a plain implementation."""

from __future__ import annotations

import json
import os
import tarfile
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner
from visdrone_reference import reference_figures

from slimdeploy.accuracy import visdrone as official
from slimdeploy.accuracy.boxes import Truths
from slimdeploy.accuracy.visdrone import figures, judge, scorer_for
from slimdeploy.accuracy.visdrone_bootstrap import official_ap, paired_bootstrap
from slimdeploy.accuracy.visdrone_match import Found
from slimdeploy.board.boxes import Detections
from slimdeploy.cli import app
from slimdeploy.data import visdrone
from slimdeploy.data.dataset import read_dataset
from slimdeploy.errors import DataError, UsageError

SIZE = (200, 300)
CAR, VAN, OTHERS = 4, 5, 11


def truth(left, top, wide, high, category=CAR, score=1):
    return [left, top, wide, high, score, category, 0, 0]


def scored(*images):
    """Return the figures of images (rows, detections as left, top, width, height, score, category)."""
    found, rows = [], []
    for own_rows, own_found in images:
        boxes = np.array(own_found, dtype=np.float64).reshape(-1, 6)
        found.append(Found(ltwh=boxes[:, :4], scores=boxes[:, 4], category=boxes[:, 5].astype(np.int64)))
        rows.append(np.array(own_rows, dtype=np.int64).reshape(-1, 8))
    ours = figures(judge(found, rows, [SIZE] * len(images)))
    theirs = reference_figures(
        [(r.tolist(), [list(one) for one in f], SIZE) for r, (_, f) in zip(rows, images, strict=True)]
    )
    assert ours == pytest.approx(theirs, abs=1e-12)
    return ours


def test_perfect_detections_score_1_in_every_figure_that_counts_them_all():
    found = scored(([truth(10, 10, 20, 20)], [(10, 10, 20, 20, 0.9, CAR)]))
    assert found == pytest.approx(dict.fromkeys(found, 1.0))


def test_no_detections_score_0():
    assert set(scored(([truth(10, 10, 20, 20)], [])).values()) == {0.0}


def test_a_detection_in_an_ignored_region_is_no_mistake():
    wrong = (100, 100, 20, 20, 0.95, CAR)
    row, hit = truth(10, 10, 20, 20), (10, 10, 20, 20, 0.9, CAR)
    assert scored(([row], [wrong, hit]))["ap50"] == pytest.approx(0.5)
    assert scored(([row, truth(90, 90, 50, 50, 0, 0)], [wrong, hit]))["ap50"] == 1


def test_an_object_in_an_ignored_region_needs_no_detection():
    rows = [truth(10, 10, 20, 20), truth(100, 100, 20, 20)]
    hit = [(10, 10, 20, 20, 0.9, CAR)]
    assert scored((rows, hit))["ar500"] == pytest.approx(0.5)
    assert scored(([*rows, truth(90, 90, 50, 50, 0, 0)], hit))["ar500"] == 1


@pytest.mark.parametrize(("wide", "dropped"), [(9, False), (10, True)])
def test_half_in_a_region_is_enough_to_be_dropped(wide, dropped):
    region = truth(100, 100, wide, 50, 0, 0)  # covers columns 101 to 100 + wide of the detection's 20
    found = scored(([truth(10, 10, 20, 20), region], [(100, 110, 20, 20, 0.95, CAR), (10, 10, 20, 20, 0.9, CAR)]))
    assert found["ap50"] == (1 if dropped else pytest.approx(0.5))


def test_regions_that_overlap_count_once():
    regions = [truth(100, 100, 9, 50, 0, 0), truth(100, 100, 9, 50, 0, 0)]
    found = scored(([truth(10, 10, 20, 20), *regions], [(100, 110, 20, 20, 0.95, CAR), (10, 10, 20, 20, 0.9, CAR)]))
    assert found["ap50"] == pytest.approx(0.5)


def test_two_regions_together_can_hold_half():
    regions = [truth(100, 100, 5, 50, 0, 0), truth(115, 100, 5, 50, 0, 0)]
    found = scored(([truth(10, 10, 20, 20), *regions], [(100, 110, 20, 20, 0.95, CAR), (10, 10, 20, 20, 0.9, CAR)]))
    assert found["ap50"] == 1


def test_boxes_that_leave_the_image_count_whole_where_regions_are_asked_for():
    region = truth(280, 100, 20, 50, 0, 0)
    rows = [truth(10, 10, 20, 20), region]
    found = scored((rows, [(285, 110, 40, 20, 0.95, CAR), (10, 10, 20, 20, 0.9, CAR)]))
    assert found["ap50"] == pytest.approx(0.5)  # 15 of its 40 columns lie in the region


def test_the_first_detections_count_by_their_order_and_not_by_score():
    rows = [truth(10, 10, 20, 20)]
    hit, wrong = (10, 10, 20, 20, 0.9, CAR), (100, 100, 20, 20, 0.1, CAR)
    assert scored((rows, [hit, wrong]))["ar1"] == 1
    assert scored((rows, [wrong, hit]))["ar1"] == 0
    assert scored((rows, [wrong, hit]))["ap"] == 1  # all 500 are ranked by score


def test_the_first_detections_are_counted_over_all_classes():
    rows = [truth(10, 10, 20, 20), truth(100, 100, 20, 20, VAN)]
    found = scored((rows, [(10, 10, 20, 20, 0.9, CAR), (100, 100, 20, 20, 0.8, VAN)]))
    assert (found["ar1"], found["ar10"]) == (pytest.approx(0.5), 1)


def test_a_detection_after_the_500th_does_not_count():
    wrong = [(100, 100, 20, 20, 0.1, VAN)] * 500
    hit = (10, 10, 20, 20, 0.9, CAR)
    assert scored(([truth(10, 10, 20, 20)], [*wrong[:-1], hit]))["ap"] == 1
    assert scored(([truth(10, 10, 20, 20)], [*wrong, hit]))["ap"] == 0


def test_what_a_region_drops_does_not_use_up_the_first_detections():
    region = truth(90, 90, 100, 100, 0, 0)
    dropped, hit = (100, 100, 20, 20, 0.95, CAR), (10, 10, 20, 20, 0.9, CAR)
    assert scored(([truth(10, 10, 20, 20), region], [dropped, hit]))["ar1"] == 1


def test_the_mean_over_classes_weighs_a_class_by_the_images_that_show_it():
    hit = [(10, 10, 20, 20, 0.9, CAR)]
    found = scored(
        ([truth(10, 10, 20, 20)], hit),
        ([truth(10, 10, 20, 20)], hit),
        ([truth(10, 10, 20, 20), truth(100, 100, 20, 20, VAN)], hit),
    )
    assert (found["ap"], found["macro_ap"]) == (pytest.approx(3 / 4), pytest.approx(1 / 2))


def test_ap_takes_every_point_and_not_101():
    rows = [truth(10, 10, 20, 20), truth(50, 10, 20, 20), truth(90, 10, 20, 20)]
    found = scored((rows, [(10, 10, 20, 20, 0.9, CAR), (200, 150, 20, 20, 0.8, CAR), (50, 10, 20, 20, 0.7, CAR)]))
    assert found["ap50"] == pytest.approx(1 / 3 + 2 / 3 / 3)


def test_an_ignored_object_takes_no_detection_for_wrong_and_still_counts_for_recall():
    rows = [truth(10, 10, 20, 20), truth(100, 100, 40, 40, CAR, 0)]
    found = scored((rows, [(105, 105, 10, 10, 0.95, CAR), (110, 110, 10, 10, 0.93, CAR), (10, 10, 20, 20, 0.9, CAR)]))
    assert found["ap50"] == pytest.approx(0.5)  # precision stays 1, recall ends at one of two
    assert found["ar500"] == pytest.approx(0.5)


def test_a_real_object_is_preferred_to_an_ignored_one():
    rows = [truth(0, 0, 100, 100, CAR, 0), truth(10, 10, 20, 20)]
    assert scored((rows, [(11, 10, 20, 20, 0.9, CAR)]))["ar10"] == pytest.approx(0.5, abs=0.11)


def test_others_are_no_class_and_ignore_nothing():
    rows = [truth(10, 10, 20, 20), truth(100, 100, 20, 20, OTHERS, 0)]
    found = scored((rows, [(100, 100, 20, 20, 0.95, CAR), (10, 10, 20, 20, 0.9, CAR)]))
    assert found["ap50"] == pytest.approx(0.5)


def test_a_second_detection_of_an_object_is_wrong():
    rows = [truth(10, 10, 20, 20), truth(100, 100, 20, 20)]
    twice = [(10, 10, 20, 20, 0.9, CAR), (10, 10, 20, 20, 0.8, CAR), (100, 100, 20, 20, 0.7, CAR)]
    assert scored((rows, twice))["ap50"] == pytest.approx(0.5 + 0.5 * 2 / 3)


def test_of_objects_that_overlap_equally_the_later_one_is_taken():
    rows = [truth(10, 10, 20, 20), truth(10, 10, 20, 20)]
    assert scored((rows, [(10, 10, 20, 20, 0.9, CAR), (10, 10, 20, 20, 0.8, CAR)]))["ap"] == 1


def test_a_box_without_an_area_is_an_object_that_nobody_finds():
    rows = [truth(10, 10, 20, 20), truth(100, 100, 0, 20)]
    assert scored((rows, [(10, 10, 20, 20, 0.9, CAR), (100, 100, 0, 20, 0.8, CAR)]))["ar500"] == pytest.approx(0.5)


def test_a_split_whose_objects_all_lie_in_ignored_regions_is_refused():
    with pytest.raises(DataError, match="outside of its ignored regions"):
        scored(([truth(10, 10, 20, 20), truth(0, 0, 200, 200, 0, 0)], []))


def perturbed(rows, rng, size, *, ordered):
    """Return detections made from annotations: moved, missed, doubled, of wrong classes, and some from nowhere."""
    own = rows[(rows[:, visdrone.CATEGORY] > 0) & (rows[:, visdrone.CATEGORY] < OTHERS)]
    own = np.concatenate([own[rng.random(len(own)) < 0.85], own[rng.random(len(own)) < 0.2]])
    boxes = own[:, :4] + rng.normal(0, 0.12, (len(own), 4)) * (own[:, [2, 3, 2, 3]] + 1)
    category = np.where(rng.random(len(own)) < 0.1, rng.integers(1, 11, len(own)), own[:, visdrone.CATEGORY])
    nowhere = rng.uniform(0, 1, (20, 4)) * [size[1], size[0], 80, 80]
    boxes = np.concatenate([boxes, nowhere])
    boxes[:, 2:] = np.maximum(boxes[:, 2:], 0)
    category = np.concatenate([category, rng.integers(1, 11, len(nowhere))])
    scores = rng.integers(1, 200, len(boxes)) / 200  # with ties
    order = np.argsort(-scores, kind="stable") if ordered else rng.permutation(len(boxes))
    return Found(ltwh=boxes[order], scores=scores[order], category=category[order])


def equal_to_reference(every, rng, *, ordered):
    sizes = [tuple(np.maximum(rows[:, [1, 0]] + rows[:, [3, 2]], 100).max(axis=0).tolist()) for rows in every]
    found = [perturbed(rows, rng, size, ordered=ordered) for rows, size in zip(every, sizes, strict=True)]
    listed = [
        (rows.tolist(), np.column_stack([one.ltwh, one.scores, one.category]).tolist(), size)
        for rows, one, size in zip(every, found, sizes, strict=True)
    ]
    ours = figures(judge(found, every, sizes))
    assert 0.05 < ours["ap"] < 0.9
    assert ours == pytest.approx(reference_figures(listed), abs=1e-12)


@pytest.mark.parametrize("ordered", [True, False])
def test_random_scenes_score_as_the_plain_implementation_says(ordered):
    rng = np.random.default_rng(3)
    every = scenes(rng)
    equal_to_reference(every, rng, ordered=ordered)


def scenes(rng, images=12):
    """Return annotations of made-up scenes, with ignored regions and objects."""
    every = []
    for _ in range(images):
        count = rng.integers(1, 40)
        boxes = (rng.uniform(0, 1, (count, 4)) * [250, 150, 50, 50]).astype(np.int64)
        category = rng.integers(0, 12, count)
        score = ((category > 0) & (category < OTHERS) & (rng.random(count) < 0.85)).astype(np.int64)
        every.append(np.column_stack([boxes, score, category, np.zeros((count, 2), dtype=np.int64)]))
    return every


def judged(every, seed):
    rng, size = np.random.default_rng(seed), (400, 400)
    found = [perturbed(rows, rng, size, ordered=True) for rows in every]
    return found, judge(found, every, [size] * len(every))


def test_the_official_ap_of_a_choice_is_that_of_the_images_as_often_as_they_were_drawn():
    every = scenes(np.random.default_rng(5))
    found, whole = judged(every, 6)
    assert official_ap(whole, np.ones(len(every), dtype=np.int64)) == pytest.approx(figures(whole)["ap"], abs=1e-12)
    times = np.array([0, 3, 1, 0, 2, 1, 1, 0, 1, 2, 0, 1])
    drawn = np.repeat(np.arange(len(every)), times)
    again = judge([found[i] for i in drawn], [every[i] for i in drawn], [(400, 400)] * len(drawn))
    assert official_ap(whole, times) == pytest.approx(figures(again)["ap"], abs=0.01)  # equal scores may change order


def test_the_interval_of_the_official_ap_holds_0_for_a_model_beside_itself():
    _, one = judged(scenes(np.random.default_rng(5)), 6)
    found = paired_bootstrap(one, one, resamples=50)
    assert (found.points, found.low, found.high) == (0, 0, 0)


def test_the_interval_of_the_official_ap_lies_around_the_difference():
    every = scenes(np.random.default_rng(5), images=40)
    boxes, one = judged(every, 6)
    kept = [box.only(np.arange(len(box.scores)) % 3 > 0) for box in boxes]  # a third is not found
    other = judge(kept, every, [(400, 400)] * len(every))
    found = paired_bootstrap(one, other, resamples=200)
    assert found.points == pytest.approx(100 * (figures(other)["ap"] - figures(one)["ap"]))
    assert found.low < found.points < found.high < 0
    assert (found.images, found.resamples) == (40, 200)


def test_models_of_different_images_are_not_compared():
    _, one = judged(scenes(np.random.default_rng(5)), 6)
    _, other = judged(scenes(np.random.default_rng(8)), 6)
    with pytest.raises(UsageError, match="different images"):
        paired_bootstrap(one, other)


@pytest.mark.parametrize("ordered", [True, False])
def test_all_official_val_annotations_score_as_the_plain_implementation_says(tmp_path, ordered):
    if "SLIMDEPLOY_DATA" not in os.environ:
        pytest.skip("SLIMDEPLOY_DATA names no folder of real data")
    with tarfile.open(Path(os.environ["SLIMDEPLOY_DATA"]) / "visdrone_val_annotations.tar.gz") as packed:
        packed.extractall(tmp_path, filter="data")
    every = [visdrone.read_rows(path) for path in sorted((tmp_path / "val").glob("*.txt"))]
    assert len(every) == 548
    equal_to_reference(every if ordered else every[::8], np.random.default_rng(7), ordered=ordered)


@pytest.fixture
def data(tmp_path):
    """Two grey images with a car each, for the classes of the small models; the second also has an ignored region."""
    import cv2

    for kind in ("images", "labels", "annotations"):
        (tmp_path / kind / "val").mkdir(parents=True)
    for number, region in enumerate(("", "0,0,10,10,0,0,0,0\n")):
        cv2.imwrite(str(tmp_path / "images" / "val" / f"{number}.png"), np.full((40, 60, 3), 90, dtype=np.uint8))
        (tmp_path / "labels" / "val" / f"{number}.txt").write_text("0 0.5 0.5 0.2 0.2\n", encoding="utf-8")
        (tmp_path / "annotations" / "val" / f"{number}.txt").write_text(
            f"24,16,12,8,1,4,0,0\n{region}", encoding="utf-8"
        )
    (tmp_path / "data.yaml").write_text("val: images/val\nnames: [car, van]\n", encoding="utf-8")
    return tmp_path / "data.yaml"


def detections(*boxes):
    rows = np.array(boxes, dtype=np.float32).reshape(-1, 6)
    return Detections(xyxy=rows[:, :4], scores=rows[:, 4], labels=rows[:, 5].astype(np.int64))


def truths():
    return Truths(xyxy=np.array([[24.0, 16, 36, 24]]), labels=np.zeros(1, dtype=np.int64), size=(40, 60))


def test_the_scorer_reads_annotations_beside_the_images_and_numbers_classes_as_the_data_does(data):
    score = scorer_for(read_dataset(data), "val")
    in_region = (1, 1, 8, 8, 0.95, 0)
    hit = (24, 16, 36, 24, 0.9, 0)
    scores = score([detections(hit), detections(in_region, hit)], [truths(), truths()], 300)
    assert (scores.map50_95, scores.precision, scores.recall) == pytest.approx((1, 1, 1))
    assert scores.per_class == pytest.approx({0: 1})
    assert scores.figures["macro_ap"] == pytest.approx(1)
    assert scores.metric == official.METRIC


def test_the_verb_val_shows_the_official_figures_beside_the_macro_mean(two_models, data):
    result = CliRunner().invoke(app, ["val", str(two_models[0]), "--data", str(data), "--protocol", "visdrone"])
    header, row, source, note = result.stdout.splitlines()
    assert " ".join(header.split()[4:]) == "AP points AP50 AP75 AR1 AR10 AR100 AR500 macro AP macro AP50"
    assert len(row.split()) == 14
    assert source.endswith("2 images, 2 boxes, VisDrone's official protocol")
    assert "every class alike" in note


def test_the_verb_val_tells_the_interval_of_the_official_ap(two_models, data):
    models = [str(model) for model in two_models]
    arguments = ["val", *models, "--data", str(data), "--protocol", "visdrone", "--json"]
    first, second = json.loads(CliRunner().invoke(app, arguments).stdout)["rows"]
    assert first["difference"] is None
    assert second["difference"]["images"] == 2


def test_the_verb_val_keeps_500_boxes_an_image_for_the_official_protocol(two_models, data, monkeypatch):
    kept = []
    monkeypatch.setattr(
        "slimdeploy.accuracy.evaluate.decode",
        lambda _output, *, max_det, **_: kept.append(max_det) or detections((24, 16, 36, 24, 0.9, 0)),
    )
    arguments = ["val", str(two_models[0]), "--data", str(data), "--json"]
    CliRunner().invoke(app, arguments)
    answer = json.loads(CliRunner().invoke(app, [*arguments, "--protocol", "visdrone"]).stdout)
    assert kept == [300, 300, 500, 500]
    assert answer["rows"][0]["accuracy"]["metric"] == official.METRIC


def test_an_unknown_protocol_is_asked_wrongly(two_models, data):
    error = CliRunner().invoke(app, ["val", str(two_models[0]), "--data", str(data), "--protocol", "voc"]).exception
    assert isinstance(error, UsageError)
    assert "coco or visdrone" in str(error)


def test_data_without_annotations_say_which_file_is_missing(data):
    (data.parent / "annotations" / "val" / "1.txt").unlink()
    with pytest.raises(DataError, match=r"1\.txt is missing"):
        scorer_for(read_dataset(data), "val")


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        pytest.param("val: images/val\nnames: [car, tram]\n", "tram", id="classes of something else"),
        pytest.param("val: images/val\nnames: [car]\nslimdeploy_tile: 640\n", "tiles", id="tiles"),
        pytest.param("val: images/val\nnames: [car]\nslimdeploy_tile: big\n", "slimdeploy_tile", id="no number"),
    ],
)
def test_data_that_the_protocol_does_not_fit_are_refused(data, text, wrong):
    data.write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=wrong):
        scorer_for(read_dataset(data), "val")
