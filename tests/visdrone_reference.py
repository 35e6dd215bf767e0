"""VisDrone's official protocol written down plainly, loop by loop, to hold the package's fast one against."""

from __future__ import annotations

import itertools
import math

import numpy as np

IOUS = (0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95)
MOST = (1, 10, 100, 500)


def reference_figures(images):
    """Return the official figures, and AP and AR by class.

    Args:
        images: (annotation rows of 8, detection rows (left, top, width, height, score, category) in file order,
            (height, width)) of each image.
    """
    kept = [drop(rows, found, size) for rows, found, size in images]
    ap = {category: [0.0] * 10 for category in range(1, 11)}
    ar = {category: [[0.0] * 4 for _ in IOUS] for category in range(1, 11)}
    weights = []
    for category in range(1, 11):
        weights += [category for rows, _ in kept if any(row[5] == category for row in rows)]
        near = [near_objects(rows, found, category) for rows, found in kept]
        objects = sum(row[5] == category for rows, _ in kept for row in rows)
        for (i, iou), (j, most) in itertools.product(enumerate(IOUS), enumerate(MOST)):
            ranked = [pair for one in near for pair in matched(one, most, iou)]
            ranked.sort(key=lambda pair: -pair[0])
            recall, precision = curves(ranked, objects)
            ar[category][i][j] = max(recall, default=0.0)
            ap[category][i] = area(recall, precision)
    mean = lambda values: sum(values) / len(values)  # noqa: E731
    return {
        "ap": mean([value for category in weights for value in ap[category]]),
        "ap50": mean([ap[category][0] for category in weights]),
        "ap75": mean([ap[category][5] for category in weights]),
        **{
            f"ar{most}": mean([row[j] for category in weights for row in ar[category]]) for j, most in enumerate(MOST)
        },
        "macro_ap": mean([value for category in sorted(set(weights)) for value in ap[category]]),
        "macro_ap50": mean([ap[category][0] for category in sorted(set(weights))]),
    }  # fmt: skip


def drop(rows, found, size):
    """Return annotations and detections without ignored regions and what half lies in them."""
    height, width = size
    regions = [row for row in rows if row[5] == 0]
    objects = [row for row in rows if row[5] != 0]
    if not regions:
        return objects, list(found)
    covered = np.zeros((height + 1, width + 1), dtype=bool)  # pixel numbers start at 1
    for left, top, wide, high in ([max(1, value) for value in row[:4]] for row in regions):
        for y in range(top, min(height, top + high) + 1):
            covered[y, left : min(width, left + wide) + 1] = True

    def stays(box):
        left, top, wide, high = (max(1, math.floor(value + 0.5)) for value in box[:4])
        left, top = min(left, width), min(top, height)
        right, bottom = min(left + wide, width), min(top + high, height)
        inside = sum(int(covered[y, left + 1 : right + 1].sum()) for y in range(top + 1, bottom + 1))
        return inside / (wide * high) < 0.5

    return [row for row in objects if stays(row)], [one for one in found if stays(one)]


def near_objects(rows, found, category):
    """Return (place in the file, score, objects) of each detection of a class, best score first.

    Objects are (number, whether ignored, overlap), ignored ones last; those that overlap by less than the lowest IoU
    that is asked for can match nothing and are left out.
    """
    own = [row for row in rows if row[5] == category]
    own = [row for row in own if row[4] == 1] + [row for row in own if row[4] == 0]
    near = []
    for place, one in enumerate(found):
        if one[5] == category:
            pairs = [(number, row[4] == 0, overlap(one, row)) for number, row in enumerate(own)]
            near.append((place, one[4], [pair for pair in pairs if pair[2] >= IOUS[0]]))
    return sorted(near, key=lambda one: -one[1])


def matched(near, most, iou):
    """Return (score, mark) of the first detections of a file, best first: 1 right, 0 wrong, -1 on an ignored object."""
    taken, marks = set(), []
    for place, score, objects in near:
        if place >= most:
            continue
        best, mark, chosen = iou, 0, None
        for number, ignored, value in objects:
            if number in taken:
                continue
            if mark == 1 and ignored:
                break
            if value < best:
                continue
            best, chosen, mark = value, number, -1 if ignored else 1
        if mark == 1:
            taken.add(chosen)
        marks.append((score, mark))
    return marks


def overlap(one, row):
    """Return the IoU of a detection with an object, or its share inside of an ignored one."""
    wide = min(one[0] + one[2], row[0] + row[2]) - max(one[0], row[0])
    if wide <= 0:
        return 0.0
    high = min(one[1] + one[3], row[1] + row[3]) - max(one[1], row[1])
    if high <= 0:
        return 0.0
    area_ = one[2] * one[3]
    return wide * high / (area_ if row[4] == 0 else area_ + row[2] * row[3] - wide * high)


def curves(ranked, objects):
    """Return recall and precision after each detection."""
    right = wrong = 0
    recall, precision = [], []
    for _, mark in ranked:
        right, wrong = right + (mark == 1), wrong + (mark == 0)
        recall.append(right / max(1, objects))
        precision.append(right / max(1, right + wrong))
    return recall, precision


def area(recall, precision):
    """Return the area under the precision envelope, at every point where recall rises."""
    recall, precision = [0.0, *recall, 1.0], [0.0, *precision, 0.0]
    for i in range(len(precision) - 2, -1, -1):
        precision[i] = max(precision[i], precision[i + 1])
    return sum((recall[i] - recall[i - 1]) * precision[i] for i in range(1, len(recall)) if recall[i] != recall[i - 1])
