"""What a reader must know before trusting a report's figures: notes on the whole, warnings on single models."""

from __future__ import annotations

import re
from collections.abc import Sequence

from slimdeploy.records import Report

NUMBER = re.compile(r"\d+(?:\.\d+)?")


def warnings(report: Report) -> list[tuple[str, tuple[str, ...]]]:
    """Return the warnings of the measurements, and the names of the models that each concerns.

    Warnings that differ only in their figures become one that gives the range.
    """
    found: dict[str, list[tuple[str, str]]] = {}
    for row in report.rows:
        for text in (text for timed in (row.latency, row.end_to_end) if timed for text in timed.warnings):
            found.setdefault(NUMBER.sub("#", text), []).append((text, row.name))
    return [
        (_joined([text for text, _ in same]), tuple(dict.fromkeys(name for _, name in same))) for same in found.values()
    ]


def remarks(report: Report) -> list[tuple[str, str]]:
    """Return notes and warnings as pairs of their kind and their text, notes first."""
    notes = [("note", note) for note in report.notes]
    return notes + [("warning", f"{', '.join(names)}: {text}") for text, names in warnings(report)]


def _joined(texts: Sequence[str]) -> str:
    """Return texts that differ only in their numbers as one, with ranges."""
    columns = zip(*(NUMBER.findall(text) for text in texts), strict=True)
    ranges = iter([_range(numbers) for numbers in columns])
    return NUMBER.sub(lambda _: next(ranges), texts[0])


def _range(numbers: Sequence[str]) -> str:
    low, high = min(numbers, key=float), max(numbers, key=float)
    return low if float(low) == float(high) else f"{low} to {high}"
