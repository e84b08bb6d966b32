"""The faults that are planted by hand can still be planted."""

import pytest

from helpers.tests.mutants import FAULTS, ROOT


@pytest.mark.parametrize("what", FAULTS)
def test_the_place_of_a_fault_is_there_once(what):
    name, right, wrong = FAULTS[what]
    text = (ROOT / "helpers" / f"{name}.py").read_text(encoding="utf-8")
    assert text.count(right) == 1 and right != wrong
