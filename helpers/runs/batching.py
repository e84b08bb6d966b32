"""Batches of about as many tokens each, in the place of as many sentences."""

import random
from collections.abc import Iterator, Sequence

from helpers.data import Batch, Pair, collate


def token_batches(pairs: Sequence[Pair], tokens: int, seed: int, epoch: int) -> Iterator[Batch]:
    """The pairs in batches of at most `tokens` target tokens, <eos> and padding included, or of a
    single pair that has more; a function of (seed, epoch) alone. Targets of the same length share a
    batch as far as possible, and among these sources of the same length; which of them do, and the
    order of the batches, is random. Every epoch has as many.
    """
    rng = random.Random(f"{seed}, {epoch}")
    order = [pairs[i] for i in rng.sample(range(len(pairs)), len(pairs))]
    order.sort(key=lambda pair: (len(pair[1]), len(pair[0])))
    cuts = starts([len(trg) + 1 for _, trg in order], tokens)
    spans = list(zip(cuts, [*cuts[1:], len(order)], strict=True))
    for start, stop in rng.sample(spans, len(spans)):
        yield collate(order[start:stop])


def starts(lengths: Sequence[int], tokens: int) -> list[int]:
    """Where a batch begins, if the longest of its `lengths`, which rise, times their number is at
    most `tokens`, or their number 1.
    """
    cuts = [0]
    for i, length in enumerate(lengths):
        if i > cuts[-1] and length * (i + 1 - cuts[-1]) > tokens:
            cuts.append(i)
    return cuts


def count(pairs: Sequence[Pair], tokens: int) -> int:
    """How many batches `token_batches` makes."""
    return len(starts(sorted(len(trg) + 1 for _, trg in pairs), tokens))
