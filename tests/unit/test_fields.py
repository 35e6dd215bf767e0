"""Values of records are checked by their annotations."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from slimdeploy.fields import mismatch


@pytest.mark.parametrize("hint", [dict[str, int], Mapping[str, int]], ids=["dict", "Mapping"])
def test_a_table_is_checked_whichever_way_it_is_annotated(hint):
    assert mismatch(hint, {"a": 1}, "penalty") is None
    assert mismatch(hint, {"a": "x"}, "penalty").place == "penalty.a"


def test_a_table_of_anything_takes_anything():
    assert mismatch(dict[str, Any], {"sr": 0.25, "form": "proximal"}, "penalty") is None
