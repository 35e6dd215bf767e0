"""What a host may ask of a board's session: every request is checked before any of it is used."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any, Callable, Mapping

from slimdeploy.board import whole
from slimdeploy.board.errors import UsageError
from slimdeploy.board.text import one_line

LINE_LIMIT_BYTES = 64 << 20  # a layer's graph comes within one
TEXT_LIMIT = 4096
MOST_FILES = 10_000
LONGEST_S = 7 * 86400.0
MOST_CALLS = 1_000_000
_HASH = re.compile(r"[0-9a-f]{64}\Z")
_OPTION = re.compile(r"--(samples|rounds|threads|power-mode|graph|runtime|dla|lock-clocks)\Z")


@dataclass(frozen=True)
class Kind:
    """What an argument must be.

    Attributes:
        wanted: in words.
        holds: whether a value is that.
        needed: whether a request must have it.
    """

    wanted: str
    holds: Callable[[Any], bool]
    needed: bool = True


def _is_whole_number(value: Any, least: int, most: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= most


def _is_number(value: Any, most: float) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value <= most


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and len(value) <= TEXT_LIMIT and value.isprintable()


def _is_table_of_files(value: Any) -> bool:
    if not isinstance(value, dict) or not 0 < len(value) <= MOST_FILES:
        return False
    return whole.unsafe_name(value) is None and all(map(whole.is_size, value.values()))


def _are_limits(value: Any) -> bool:
    if not isinstance(value, dict) or set(value) != {"build", "check"}:
        return False
    return all(_is_number(limit, LONGEST_S) and limit > 0 for limit in value.values())


def _are_options(value: Any) -> bool:
    """Words for the agent's `bench`: each option is one that changes no folder, and no value looks like an option."""
    if not isinstance(value, list) or len(value) > 32 or not all(map(_is_text, value)):
        return False
    return all(_OPTION.match(word) if word.startswith("--") else not word.startswith("-") for word in value)


def _is_way_of_timing(value: Any) -> bool:
    if not isinstance(value, dict) or set(value) != {"precision", "budget_s", "calls"}:
        return False
    calls = value["calls"]
    if not isinstance(calls, list) or len(calls) != 2:
        return False
    return (
        value["precision"] in ("fp32", "fp16", "int8")
        and _is_number(value["budget_s"], LONGEST_S)
        and all(_is_whole_number(one, 1, MOST_CALLS) for one in calls)
        and calls[0] <= calls[1]
    )


HASH = Kind("the 64 hex digits that name a bundle", lambda value: isinstance(value, str) and bool(_HASH.match(value)))
FILES = Kind("sizes by names inside the bundle's folder", _is_table_of_files)
SIZE = Kind("a number of bytes", whole.is_size)
SECONDS = Kind("seconds, above 0", lambda value: _is_number(value, LONGEST_S) and value > 0)
COUNT = Kind("a number in 0..1000", lambda value: _is_whole_number(value, 0, 1000))
TEXT = Kind("printable text in one line", _is_text)
FLAG = Kind("true or false", lambda value: isinstance(value, bool))
LIMITS = Kind("seconds for build and for check", _are_limits)
OPTIONS = Kind("options of the agent's bench", _are_options)
TIMING = Kind("precision, budget_s and two calls", _is_way_of_timing)
GRAPH = Kind("a compressed graph in base64", lambda value: isinstance(value, str), needed=False)
FILE = Kind("the hash of a file that was sent", lambda value: value == "" or HASH.holds(value), needed=False)
RUNTIME = Kind("a runtime", lambda value: value in ("", "tensorrt", "onnxruntime"), needed=False)

REQUESTS: Mapping[str, Mapping[str, Kind]] = {
    "ping": {},
    "look": {},
    "begin": {"name": HASH, "files": FILES, "spare_bytes": SIZE},
    "stage": {"name": HASH, "timeouts_s": LIMITS, "runtime": RUNTIME},
    "activate": {"name": HASH, "keep": COUNT},
    "bench": {"name": HASH, "limit_s": SECONDS, "options": OPTIONS},
    "rollback": {},
    "prune": {"keep": COUNT},
    "time": {"limit_s": SECONDS, "threads": COUNT, "how": TIMING, "graph": GRAPH, "file": FILE},
    "forget": {"name": HASH},
    "install_service": {"source": TEXT, "udev": FLAG, "start": FLAG},
    "remove_service": {},
}


def parse(line: bytes) -> tuple[str, dict[str, Any]]:
    """Return the verb and the arguments of a request.

    Raises:
        UsageError: it is no JSON object, no request that the board knows, or an argument is missing, wrong or unknown.
    """
    try:
        request = json.loads(line.decode("utf-8"), parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        raise UsageError("the board cannot read this request", wanted="a JSON object in one line") from error
    if not isinstance(request, dict) or not isinstance(request.get("do"), str):
        raise UsageError("the request names nothing to do", wanted="a JSON object with 'do'")
    verb = request.pop("do")
    if verb not in REQUESTS:
        raise UsageError(
            f"the board does not know the request {one_line(verb, 40)!r}", do="use the same slimdeploy on both sides"
        )
    known = REQUESTS[verb]
    for name in request:
        if name not in known:
            raise UsageError(f"{verb} takes no {one_line(name, 40)!r}", wanted=", ".join(known) or "no argument")
    for name, kind in known.items():
        if name not in request and kind.needed:
            raise UsageError(f"{verb} lacks {name}", wanted=kind.wanted)
        if name in request and not kind.holds(request[name]):
            raise UsageError(f"{name} of {verb} is {_shown(request[name])}", wanted=kind.wanted)
    return verb, request


def _shown(value: Any) -> str:
    if isinstance(value, (dict, list)):
        return f"{'an object' if isinstance(value, dict) else 'a list'} that cannot be used"
    return one_line(json.dumps(value) if not isinstance(value, str) else repr(value[:80]), 80)


def _no_number(text: str) -> float:
    raise ValueError(f"{text} is no number")
