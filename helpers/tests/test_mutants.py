"""The faults that are planted by hand can still be planted, and their tests are there."""

from pathlib import Path

import pytest

from helpers.tests.mutants import FAULTS, ROOT, TESTS


@pytest.mark.parametrize("what", FAULTS)
def test_the_place_of_a_fault_is_there_once(what):
    name, right, wrong = FAULTS[what]
    text = (ROOT / "helpers" / f"{name}.py").read_text(encoding="utf-8")
    assert text.count(right) == 1 and right != wrong


@pytest.mark.parametrize("name", sorted({name for name, _, _ in FAULTS.values()} | {*TESTS}))
def test_the_tests_of_a_file_are_there(name):
    assert (ROOT / "helpers" / f"{name}.py").is_file()
    for test in TESTS.get(name, [Path(name).name]):
        assert Path(__file__).with_name(f"test_{test}.py").is_file()
