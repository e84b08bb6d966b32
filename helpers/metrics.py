"""How good is an answer? Exact match, token accuracy, intervals, and alignment as a number.

A hypothesis is what the model wrote, a reference what it should have written; both are sequences of
words or of ids.
"""

from collections.abc import Sequence
from math import log, sqrt

import torch
from torch import Tensor


def matches(hypotheses: Sequence[Sequence], references: Sequence[Sequence]) -> list[bool]:
    """For each pair, whether the two are the same from the first to the last token.

    Raises ValueError if the numbers of hypotheses and references differ.
    """
    return [list(hyp) == list(ref) for hyp, ref in zip(hypotheses, references, strict=True)]


def exact_match(hypotheses: Sequence[Sequence], references: Sequence[Sequence]) -> float:
    """The share of hypotheses that are right as a whole, in [0, 1]; 0 if there are none."""
    right = matches(hypotheses, references)
    return sum(right) / max(1, len(right))


def token_accuracy(hypotheses: Sequence[Sequence], references: Sequence[Sequence]) -> float:
    """The share of reference tokens that stand at their place in the hypothesis, in [0, 1].

    Tokens beyond the end of the reference count neither for nor against.
    """
    right = total = 0
    for hyp, ref in zip(hypotheses, references, strict=True):
        right += sum(h == r for h, r in zip(hyp, ref, strict=False))
        total += len(ref)
    return right / max(1, total)


def wilson_interval(right: int, total: int, z: float = 1.96) -> tuple[float, float]:
    """The interval for a share of which `right` out of `total` were seen (Wilson 1927); z = 1.96
    makes it a 95 % interval. Unlike share +- error it stays inside [0, 1], also at 100 %.

    Raises ValueError unless 0 <= right <= total and total > 0.
    """
    if not 0 <= right <= total or total == 0:
        raise ValueError(f"need 0 <= right <= total and total > 0, not {right} of {total}")
    share = right / total
    centre = (share + z**2 / (2 * total)) / (1 + z**2 / total)
    radius = z / (1 + z**2 / total) * sqrt(share * (1 - share) / total + z**2 / (4 * total**2))
    return max(0.0, min(share, centre - radius)), min(1.0, max(share, centre + radius))


def by_length(right: Sequence[bool], lengths: Sequence[int]) -> object:
    """Exact match for each length, with 95 % intervals: a DataFrame with one row a length."""
    if not len(right):
        raise ValueError("no sentences to count")
    import pandas as pd  # not above: this import is slow, and most commands make no table

    table = pd.DataFrame({"length": lengths, "right": right}).groupby("length")["right"]
    table = table.agg(sentences="size", right="sum")
    table["exact match"] = table["right"] / table["sentences"]
    intervals = map(wilson_interval, table["right"], table["sentences"])
    table["low"], table["high"] = zip(*intervals, strict=True)
    return table


def alignment_accuracy(all_weights: Sequence[Tensor], lengths: Sequence[int]) -> float:
    """Of all source words, the share at which their own output word looks most, in [0, 1].

    `all_weights` holds for each sentence the weights (words written, S), `lengths` the number n of
    its source words. The right source of output word t is n - 1 - t, counted from 0. Rows beyond
    the n-th, such as that of <eos>, do not count.
    """
    right = total = 0
    for weights, n in zip(all_weights, lengths, strict=True):
        strongest = weights[:n].argmax(dim=-1)
        target = torch.arange(n - 1, -1, -1, device=weights.device)[: len(strongest)]
        right += (strongest == target).sum().item()
        total += n
    return right / max(1, total)


def entropy(weights: Tensor) -> Tensor:
    """The entropy, in bits, over the last dimension: 0 for a single peak, log2(n) for n equals."""
    return torch.special.entr(weights).sum(dim=-1) / log(2)
