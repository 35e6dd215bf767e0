"""Which JetPack a board runs, from /etc/nv_tegra_release.

Source: jtop/core/jetson_variables.py of rbonghi/jetson_stats; 36.5.0 as jetson_stats and boards in the field say.
"""

from __future__ import annotations

import re

JETPACK_OF = {
    "39.2.1": "7.2.1",
    "39.2.0": "7.2",
    "38.4.0": "7.1",
    "38.2.2": "7.0",
    "38.2.1": "7.0",
    "38.2.0": "7.0",
    "36.5.0": "6.2.2",
    "36.4.7": "6.2.1",
    "36.4.4": "6.2.1",
    "36.4.3": "6.2",
    "36.4.2": "6.1",
    "36.4.0": "6.1",
    "36.3.0": "6.0",
    "35.6.4": "5.1.6",
    "35.6.3": "5.1.5",
    "35.6.2": "5.1.5",
    "35.6.1": "5.1.5",
    "35.6.0": "5.1.4",
    "35.5.0": "5.1.3",
    "35.4.1": "5.1.2",
    "35.3.1": "5.1.1",
    "35.2.1": "5.1",
    "35.1.0": "5.0.2",
    "32.7.6": "4.6.6",
    "32.7.5": "4.6.5",
    "32.7.4": "4.6.4",
    "32.7.3": "4.6.3",
    "32.7.2": "4.6.2",
    "32.7.1": "4.6.1",
    "32.6.1": "4.6",
}
_RELEASE = re.compile(r"R([0-9]{1,4})(?![0-9])[^\n]{0,200}?REVISION:\s*([0-9.]{1,20})(?![0-9.])")


def l4t_of(release: str) -> str | None:
    """Return the L4T version that the first line of nv_tegra_release tells, such as "36.4.4", or None."""
    found = _RELEASE.search(release)
    if not found:
        return None
    parts = [found.group(1), *found.group(2).split(".")]
    return ".".join([*parts, "0"][:3])


def jetpack_of(l4t: str | None) -> str | None:
    """Return the JetPack of an L4T version, or None where the table does not know it."""
    return JETPACK_OF.get(l4t or "")
