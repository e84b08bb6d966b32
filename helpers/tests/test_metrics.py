"""The metrics on cases that can be counted by hand."""

import pytest
import torch

from helpers.metrics import (
    alignment_accuracy,
    by_length,
    entropy,
    exact_match,
    matches,
    token_accuracy,
    wilson_interval,
)


def test_exact_match():
    hyps = [["c", "b", "a"], ["a"], [], ["a", "b", "b"]]
    refs = [["c", "b", "a"], ["b"], ["a"], ["a", "b"]]
    assert matches(hyps, refs) == [True, False, False, False]
    assert exact_match(hyps, refs) == 0.25
    assert exact_match([], []) == 0
    with pytest.raises(ValueError):
        exact_match([["a"]], [])


def test_token_accuracy():
    assert token_accuracy([["c", "b", "x"]], [["c", "b", "a"]]) == 2 / 3
    assert token_accuracy([["c"]], [["c", "b", "a"]]) == 1 / 3
    assert token_accuracy([["c", "b", "a", "a"]], [["c", "b", "a"]]) == 1
    assert token_accuracy([[1], [2, 3]], [[1], [3, 2]]) == 1 / 3


def test_wilson_interval_of_published_cases():
    # Newcombe 1998, Statistics in Medicine 17, table I, method 3: 81/263, 15/148, 0/20, 1/29.
    cases = {(81, 263): (0.2553, 0.3662), (15, 148): (0.0624, 0.1605)}
    cases |= {(0, 20): (0.0, 0.1611), (1, 29): (0.0061, 0.1718)}
    for counts, expected in cases.items():
        assert wilson_interval(*counts) == pytest.approx(expected, abs=5e-5)
    low, high = wilson_interval(20, 20)
    assert 0 < low < 1 and high == 1


@pytest.mark.parametrize("right, total", [(0, 0), (-1, 5), (6, 5)])
def test_wilson_interval_refuses_impossible_counts(right, total):
    with pytest.raises(ValueError):
        wilson_interval(right, total)


def test_by_length():
    table = by_length([True, False, True, True], [2, 2, 1, 2])
    assert table["sentences"].to_dict() == {1: 1, 2: 3}
    assert table["right"].to_dict() == {1: 1, 2: 2}
    assert table["exact match"].to_dict() == {1: 1, 2: 2 / 3}
    assert (table["low"] <= table["exact match"]).all()
    assert (table["exact match"] <= table["high"]).all()


def test_alignment_accuracy():
    mirror = torch.eye(3).flip(0)
    eos = torch.tensor([[1.0, 0.0, 0.0]])
    assert alignment_accuracy([torch.cat([mirror, eos])], [3]) == 1
    assert alignment_accuracy([torch.eye(3)], [3]) == pytest.approx(1 / 3)
    assert alignment_accuracy([mirror[:2]], [3]) == pytest.approx(2 / 3)  # stopped too early
    assert alignment_accuracy([mirror, torch.eye(2)], [3, 2]) == 3 / 5


def test_entropy():
    weights = torch.tensor([[1.0, 0, 0, 0], [0.25, 0.25, 0.25, 0.25], [0.5, 0.5, 0, 0]])
    torch.testing.assert_close(entropy(weights), torch.tensor([0.0, 2.0, 1.0]))
