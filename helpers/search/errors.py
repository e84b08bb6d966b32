"""What is wrong with an answer: the kinds of mistakes that a model makes."""

from collections.abc import Sequence


def error_kind(hyp: Sequence, ref: Sequence) -> str:
    """What is wrong with a hypothesis; the first of these that applies:

    "right", "stopped early" (the rest is missing), "ran on" (something follows), "swapped" (the
    same tokens in another order), "skipped" (tokens are missing), "repeated" (tokens of the
    reference are there once more), "substituted" (other tokens, the same length), else "several".
    """
    hyp, ref = list(hyp), list(ref)
    if hyp == ref:
        return "right"
    if hyp == ref[: len(hyp)]:
        return "stopped early"
    if hyp[: len(ref)] == ref:
        return "ran on"
    if sorted(hyp) == sorted(ref):
        return "swapped"
    if is_subsequence(hyp, ref):
        return "skipped"
    if is_subsequence(ref, hyp) and set(hyp) <= set(ref):
        return "repeated"
    return "substituted" if len(hyp) == len(ref) else "several"


def is_subsequence(short: Sequence, long: Sequence) -> bool:
    """Whether `long` becomes `short` if some of its tokens are left out."""
    rest = iter(long)
    return all(token in rest for token in short)
