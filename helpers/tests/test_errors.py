"""The kinds of mistakes, on cases that can be judged by hand."""

import pytest

from helpers.search.errors import error_kind


@pytest.mark.parametrize(
    "hyp, kind",
    [
        ("a b c d", "right"),
        ("a b", "stopped early"),
        ("", "stopped early"),
        ("a b c d d", "ran on"),
        ("b a c d", "swapped"),
        ("a c d", "skipped"),
        ("a b b c d", "repeated"),
        ("a b x c d", "several"),
        ("a b x d", "substituted"),
        ("a b b d", "substituted"),
        ("x b", "several"),
    ],
)
def test_kinds_of_errors(hyp, kind):
    assert error_kind(hyp.split(), "a b c d".split()) == kind
