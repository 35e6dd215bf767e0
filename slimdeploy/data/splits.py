"""Find the image files of a split: folders, lists and single images, as ultralytics finds them (8.4)."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from slimdeploy.board.text import brief
from slimdeploy.data.dataset_yaml import Settings
from slimdeploy.data.image_files import OTHER_SUFFIXES, SUFFIXES
from slimdeploy.data.labels import Report
from slimdeploy.errors import DataError

LARGEST_LIST_BYTES = 1 << 30
DATA = "data"  # what CVAT and Darknet write before the paths of their lists


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """The files that a split names.

    Attributes:
        images: image files, in the order in which they were found.
        other: files that were passed over though they are images or were listed, with the reason.
        absent: places that the split names and that are not there, as errors.
    """

    images: list[Path] = field(default_factory=list)
    other: list[tuple[Path, str]] = field(default_factory=list)
    absent: list[DataError] = field(default_factory=list)


def list_split(settings: Settings, split: str, report: Report) -> Listing:
    """Return the files of a split.

    Args:
        settings: the data set's YAML.
        split: one of the splits that it names.
        report: gets each problem: a folder or a list that cannot be read, or a line of a list that is wrong.
    """
    listing = Listing()
    for entry in settings.splits[split]:
        place = _place(entry, settings)
        try:
            if place is None:
                listing.absent.append(_not_there(settings.root / entry, settings, split))
            elif place.is_dir():
                _add_folder(place, listing)
            elif place.suffix.lower() in SUFFIXES:
                listing.images.append(place)
            else:
                _add_list(place, settings, listing, report)
        except DataError as error:
            report(error)
    return listing


def _place(entry: str, settings: Settings) -> Path | None:
    """Return where an entry lies; Roboflow writes `../train/images` for a folder beside the YAML."""
    candidates = [settings.root / one for form in _spellings(entry) for one in (form, form.removeprefix("../"))]
    return next((candidate for candidate in candidates if _exists(candidate)), None)


def _spellings(path: str) -> tuple[str, ...]:
    """Return a path as it stands and, where it may be one of Windows, with slashes."""
    return (path, path.replace("\\", "/")) if "\\" in path and os.sep == "/" else (path,)


def _not_there(place: Path, settings: Settings, split: str) -> DataError:
    pattern = any(sign in place.name for sign in "*?[")
    return DataError(
        f"{settings.path}: the {split} split names {place}, which is not there",
        wanted="folders or lists by their names: patterns are not taken" if pattern
        else f"a folder or a list of images, relative to {settings.root}",
    )  # fmt: skip


def _add_folder(folder: Path, listing: Listing) -> None:
    """Add the images below a folder. Links are followed, but not into a folder that holds them; hidden names are not.

    Whatever its name, a folder is no image.
    """
    for path in _walk(folder):
        suffix = path.suffix.lower()
        if suffix in SUFFIXES:
            listing.images.append(path)
        elif suffix in OTHER_SUFFIXES:
            listing.other.append((path, f"the format {suffix}, which is not trained on"))


def _walk(top: Path) -> Iterator[Path]:
    waiting: list[tuple[Path, frozenset[tuple[int, int]]]] = [(top, frozenset())]
    while waiting:
        folder, above = waiting.pop()
        try:
            status = folder.stat()
            identity = (status.st_dev, status.st_ino)
            if identity in above:
                continue
            with os.scandir(folder) as entries:
                names = [(entry.name, _is_folder(entry)) for entry in entries if not entry.name.startswith(".")]
        except OSError as error:
            raise DataError(f"the folder {folder} cannot be listed: {error.strerror}", do="allow reading it") from error
        waiting += [(folder / name, above | {identity}) for name, is_folder in names if is_folder]
        yield from (folder / name for name, is_folder in names if not is_folder)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that leads to itself; as a file it is told
        return False


def _add_list(place: Path, settings: Settings, listing: Listing, report: Report) -> None:
    for number, line in enumerate(_lines(place), start=1):
        entry = line.strip()
        if not entry:
            continue
        where = f"{place}:{number}"
        if not entry.isprintable() and any(ord(sign) < 32 or ord(sign) == 127 for sign in entry):
            report(DataError(f"{where} holds {brief(entry)}", wanted="the path of an image"))
        elif PurePosixPath(entry).suffix.lower() not in SUFFIXES:
            listing.other.append((_listed(entry, place, settings), "listed, but of no format that is trained on"))
        else:
            listing.images.append(_listed(entry, place, settings))


def _lines(place: Path) -> list[str]:
    try:
        if not place.is_file() or place.stat().st_size > LARGEST_LIST_BYTES:
            raise DataError(f"{place} is no list of images", wanted="a text file, an image a line")
        return place.read_bytes().decode("utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise DataError(f"the list {place} is no text", wanted="the path of an image in each line, as UTF-8") from error
    except OSError as error:
        raise DataError(f"the list {place} cannot be read: {error.strerror}") from error


def _listed(entry: str, place: Path, settings: Settings) -> Path:
    """Return the image that a list names, relative to the list or else to the data set.

    A path of Windows reads as any other. Where `data/` leads nowhere, as in CVAT's lists, it is left out. The working
    directory, which ultralytics takes such paths to be relative to, is never looked at.
    """
    candidates = []
    for form in _spellings(entry):
        candidates += [place.parent / form, settings.root / form]
        if form.startswith(f"{DATA}/"):
            shorter = form.removeprefix(f"{DATA}/")
            candidates += [place.parent / shorter, settings.root / shorter]
    return next((candidate for candidate in candidates if _exists(candidate)), candidates[0])


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):
        return False
