"""Pack the board's agent into one file, agent.pyz: the same sources give the same bytes."""

from __future__ import annotations

import zipfile
from pathlib import Path

from slimdeploy import board

AGENT = "agent.pyz"
_PACKAGE = "slimdeploy/board"
_OLDEST = (1980, 1, 1, 0, 0, 0)  # a zip knows no earlier time; no clock goes into the file
_ORDINARY_FILE = 0o100644
_START = '''\
"""Start the agent, or say in one line which Python it needs; this file alone is read by older ones."""
import sys

if sys.version_info < (3, 8):
    sys.stderr.write("agent: this is Python %d.%d; wanted: 3.8 or newer; do: name one, as in python3.8 agent.pyz\\n"
                     % tuple(sys.version_info[:2]))
    sys.exit(3)

from slimdeploy.board.agent import main

sys.exit(main())
'''


def write_agent(path: Path) -> None:
    """Write the agent, a zipapp of `slimdeploy.board` alone: `python3 agent.pyz VERB`.

    Args:
        path: the file to make.
    """
    sources = {"__main__.py": _START, "slimdeploy/__init__.py": '"""The part of slimdeploy that runs on boards."""\n'}
    for source in sorted(Path(board.__file__).parent.glob("*.py")):
        sources[f"{_PACKAGE}/{source.name}"] = source.read_text(encoding="utf-8")
    with path.open("wb") as stream:
        stream.write(b"#!/usr/bin/env python3\n")
        with zipfile.ZipFile(stream, "w", zipfile.ZIP_STORED) as packed:  # zlib's bytes differ between its versions
            for name in sorted(sources):
                entry = zipfile.ZipInfo(name, _OLDEST)
                entry.create_system, entry.external_attr = 3, _ORDINARY_FILE << 16
                packed.writestr(entry, sources[name].encode("utf-8"))
