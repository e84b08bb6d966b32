"""Batches of as many tokens: each pair once, none too large, every epoch another order."""

import random

import pytest
import torch

from helpers.data import EOS, PAD
from helpers.runs.batching import count, starts, token_batches


def pairs_of(lengths):
    return [([7 + i] * src, [7 + i] * trg) for i, (src, trg) in enumerate(lengths)]


RNG = random.Random(1)
PAIRS = pairs_of([(RNG.randint(1, 30), RNG.randint(1, 30)) for _ in range(300)])


@pytest.mark.parametrize("tokens", [40, 200, 1000, 100_000])
def test_each_pair_once_in_batches_that_are_not_too_large(tokens):
    batches = list(token_batches(PAIRS, tokens, seed=1, epoch=1))
    seen = [int(row[0]) for batch in batches for row in batch.src]
    assert sorted(seen) == [7 + i for i in range(300)]
    assert all(batch.trg_out.numel() <= tokens for batch in batches)
    assert len(batches) == count(PAIRS, tokens)
    for batch in batches:
        assert (batch.trg_out == EOS).sum() == len(batch.src)


def test_little_is_padding():
    batches = [batch.trg_out for batch in token_batches(PAIRS, 200, seed=1, epoch=1)]
    real = sum((trg_out != PAD).sum() for trg_out in batches)
    assert real / sum(map(torch.numel, batches)) > 0.93


def test_a_pair_that_is_longer_is_alone():
    pairs = pairs_of([(1, 3), (2, 50), (1, 60)])
    batches = token_batches(pairs, 10, seed=1, epoch=1)
    assert sorted(batch.trg_out.shape for batch in batches) == [(1, 4), (1, 51), (1, 61)]


def test_a_function_of_seed_and_epoch():
    def order(seed, epoch):
        batches = token_batches(PAIRS, 200, seed, epoch)
        return torch.cat([batch.src[:, 0] for batch in batches]).tolist()

    assert order(1, 1) == order(1, 1)
    assert order(1, 1) != order(1, 2) and order(1, 1) != order(2, 1)


def test_where_a_batch_begins():
    assert starts([1, 2, 2, 3, 5], 4) == [0, 2, 3, 4]
    assert starts([2, 2, 2, 2], 4) == [0, 2]
    assert starts([9], 4) == [0]
