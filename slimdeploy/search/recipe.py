"""The recipe that makes a trial again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from slimdeploy._needs import needs
from slimdeploy.search.space import with_values
from slimdeploy.search.spec import Spec


def recipe_text(spec: Spec, values: Mapping[str, Any]) -> str:
    """Return the TOML of the recipe that makes a trial again; its paths are absolute, variables in them stay."""
    with needs("search"):
        import tomli_w
    raw = with_values(spec.recipe, values)
    for key in ("data", "weights"):
        if key in raw and "$" not in str(raw[key]):
            raw[key] = (spec.place.parent / str(raw[key])).resolve().as_posix()
    if spec.data is not None:
        raw["data"] = spec.data.as_posix()
    text: str = tomli_w.dumps(raw)
    return text
