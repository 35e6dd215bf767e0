"""VisDrone-DET's own files: where a download keeps them, and what their rows say."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from slimdeploy.data.image_files import SUFFIXES
from slimdeploy.errors import DataError

log = logging.getLogger("slimdeploy.data")

CLASSES = (
    "pedestrian", "people", "bicycle", "car", "van", "truck", "tricycle", "awning-tricycle", "bus", "motor",
)  # fmt: skip
SPLITS = ("train", "val", "test-dev")  # test-challenge comes without annotations
REGION = 0  # category of an ignored region; 1 to 10 are CLASSES
LARGEST = 1_000_000  # pixels; no photograph is as wide
LAST_CATEGORY = 11  # "others"
COLUMNS = 8
LEFT, TOP, WIDTH, HEIGHT, SCORE, CATEGORY, TRUNCATION, OCCLUSION = range(COLUMNS)
WANTED = "left,top,width,height,score,category,truncation,occlusion, all whole numbers"
PROBLEMS_SHOWN = 20

Rows = npt.NDArray[np.int64]  # (n, 8), in the order of the file


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """One image of a download and what its annotations say.

    Attributes:
        split: `train`, `val` or `test-dev`.
        image: the image file.
        annotation: the annotation file.
        rows: its rows, checked; (n, 8).
    """

    split: str
    image: Path
    annotation: Path
    rows: Rows


def read_download(folder: Path) -> tuple[Source, ...]:
    """Return every image of a download with its annotations, by split and name.

    Args:
        folder: what holds VisDrone2019-DET-train, -val and -test-dev as unpacked, or one of them; or images/ and
            annotations/, each with the splits as folders. Not every split need be there.

    Raises:
        DataError: there is no such layout, an image or its annotations are missing, or rows are damaged. Each problem
            is logged with file and line, the first 20 of them.
    """
    places = _places(folder)
    if not places:
        raise DataError(
            f"{folder} holds no VisDrone-DET",
            wanted="VisDrone2019-DET-val/images and annotations (or -train, -test-dev), as the official zips unpack",
        )
    found: list[Source] = []
    problems: list[str] = []
    for place in places:
        _read_split(*place, found, problems)
    _refuse(problems, folder)
    return tuple(found)


def read_rows(path: Path) -> Rows:
    """Return the rows of one annotation file.

    Raises:
        DataError: the file is missing, or a row is damaged; the message names file and line.
    """
    rows, problems = parse(path)
    if problems:
        raise DataError(problems[0], wanted=WANTED)
    return rows


def parse(path: Path) -> tuple[Rows, list[str]]:
    """Return an annotation file's good rows, and a sentence with file and line for each damaged one.

    A comma at a row's end is no damage: some official files have it.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except FileNotFoundError:
        return np.empty((0, COLUMNS), dtype=np.int64), [f"{path} is missing"]
    except (UnicodeDecodeError, IsADirectoryError):
        return np.empty((0, COLUMNS), dtype=np.int64), [f"{path} is no text"]
    rows, problems = [], []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        values, wrong = _row(line)
        if wrong:
            problems.append(f"{path}:{number} {wrong}: {line.strip()[:60]!r}")
        else:
            rows.append(values)
    return np.array(rows, dtype=np.int64).reshape(-1, COLUMNS), problems


def is_object(rows: Rows) -> npt.NDArray[np.bool_]:
    """Return which rows are objects of the ten classes that are to be found; (n,)."""
    category = rows[:, CATEGORY]
    return np.asarray((rows[:, SCORE] == 1) & (category > REGION) & (category <= len(CLASSES)))


def xyxy(rows: Rows) -> npt.NDArray[np.float64]:
    """Return the rows' corners, in pixels; (n, 4)."""
    corner = rows[:, [LEFT, TOP]].astype(np.float64)
    return np.concatenate([corner, corner + rows[:, [WIDTH, HEIGHT]]], axis=1)


def fingerprint(sources: Sequence[Source]) -> str:
    """Return a hash of names, image sizes and annotations, as 64 hex digits."""
    digest = hashlib.sha256()
    for one in sources:
        digest.update(
            f"{one.split}/{one.image.name}/{one.image.stat().st_size}/".encode() + one.annotation.read_bytes()
        )
    return digest.hexdigest()


def _places(folder: Path) -> list[tuple[str, Path, Path]]:
    """Return the splits that are there: name, folder of images, folder of annotations."""
    found = []
    for split in SPLITS:
        whole = folder if folder.name.endswith(f"-DET-{split}") else folder / f"VisDrone2019-DET-{split}"
        for images, rows in (
            (whole / "images", whole / "annotations"),
            (folder / "images" / split, folder / "annotations" / split),
        ):
            if images.is_dir() and rows.is_dir():
                found.append((split, images, rows))
                break
    return found


def _read_split(split: str, images: Path, annotations: Path, found: list[Source], problems: list[str]) -> None:
    shown = (path for path in images.iterdir() if not path.name.startswith("."))
    pictures = sorted(path for path in shown if path.suffix.lower() in SUFFIXES)
    by_stem = {path.stem: path for path in pictures}
    if not pictures:
        problems.append(f"{images} holds no images")
    problems.extend(
        f"{path} has the same name as {by_stem[path.stem].name}" for path in pictures if by_stem[path.stem] != path
    )
    problems.extend(
        f"{path} has no image in {images}" for path in sorted(annotations.glob("*.txt")) if path.stem not in by_stem
    )
    for stem, image in by_stem.items():
        annotation = annotations / f"{stem}.txt"
        rows, wrong = parse(annotation)
        problems.extend(wrong)
        found.append(Source(split=split, image=image, annotation=annotation, rows=rows))


def _row(line: str) -> tuple[list[int], str]:
    """Return a row's numbers and what is wrong with them; "" if nothing is."""
    try:
        values = [int(field) for field in line.strip().removesuffix(",").split(",")]
    except ValueError:
        return [], "does not hold whole numbers"
    if len(values) != COLUMNS:
        return [], f"has {len(values)} columns, not {COLUMNS}"
    return (values, "") if not (wrong := _fault(values)) else ([], wrong)


def _fault(values: Sequence[int]) -> str:
    if max(map(abs, values)) > LARGEST:
        return f"holds a number above {LARGEST}"
    if min(values[WIDTH], values[HEIGHT]) < 0:
        return "has a width or height below 0"
    if values[SCORE] not in (0, 1):
        return f"has the score {values[SCORE]}, not 0 or 1"
    return (
        ""
        if 0 <= values[CATEGORY] <= LAST_CATEGORY
        else (f"has the category {values[CATEGORY]}, not 0 to {LAST_CATEGORY}")
    )


def _refuse(problems: Sequence[str], folder: Path) -> None:
    if not problems:
        return
    for problem in problems[:PROBLEMS_SHOWN]:
        log.error("%s", problem)
    raise DataError(
        f"{folder} has {len(problems)} damaged rows or missing files"
        + (f", of which {PROBLEMS_SHOWN} are shown" if len(problems) > PROBLEMS_SHOWN else ""),
        wanted=WANTED,
        do="unpack the download again, or mend the rows; nothing was written",
    )
