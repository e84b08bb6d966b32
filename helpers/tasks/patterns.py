"""Number patterns: digits that repeat, and how they go on. The third task."""

import random
from itertools import product

from helpers.data import SPECIALS, Splits, TaskData, Vocab, split
from helpers.tasks.task import encoded

CONTINUED = 6  # digits that are asked for
PERIOD = 3  # digits, at most, until a pattern repeats

Digits = tuple[str, ...]


def load(seed: int, max_length: int, per_length: int) -> TaskData:
    """No pattern is in two parts of the data; what repeats may be, at another length. Raises
    ValueError if there are too few to split.
    """
    sources = sequences(per_length, max_length, seed)
    try:
        sentences = split(sources, seed, group=tuple)
    except ValueError as error:
        raise ValueError(f"{error}: choose a higher per_length or max_length") from None
    references = Splits(*([continuation(digits) for digits in part] for part in sentences))
    vocab = Vocab([*SPECIALS[:3], *"0123456789"])
    return encoded(sentences, references, vocab, vocab)


def period(digits: Digits) -> int:
    """After how many digits the sequence repeats: the smallest number that explains all of it.
    Raises ValueError if there is no digit.
    """
    if not digits:
        raise ValueError("a pattern has at least one digit")
    return next(n for n in range(1, len(digits) + 1) if digits[n:] == digits[:-n])


def cycle(digits: Digits) -> Digits:
    """What repeats, wherever it begins: of all its rotations the first in alphabetical order."""
    unit = digits[: period(digits)]
    return min(unit[i:] + unit[:i] for i in range(len(unit)))


def continuation(digits: Digits) -> Digits:
    """The next `CONTINUED` digits."""
    n = period(digits)
    return tuple(digits[(len(digits) + i) % n] for i in range(CONTINUED))


def of_length(length: int) -> list[Digits]:
    """All patterns of that many digits: zeros, ones, ones and zeros in turn, any one to three
    digits over and over again. What repeats is shown at least twice, so there is one continuation.
    """
    patterns: dict[Digits, None] = {}  # a dictionary serves as a set that remembers the order
    for n in range(1, min(PERIOD, length // 2) + 1):
        for unit in product("0123456789", repeat=n):
            patterns[tuple(unit[i % n] for i in range(length))] = None
    return list(patterns)


def sequences(per_length: int, max_length: int, seed: int = 0) -> list[Digits]:
    """Distinct patterns of 2 to `max_length` digits, in random order: `per_length` of each length,
    or all of a length that has no more.
    """
    rng = random.Random(seed)
    pool = []
    for length in range(2, max_length + 1):
        patterns = of_length(length)
        pool += rng.sample(patterns, min(per_length, len(patterns)))
    rng.shuffle(pool)
    return pool
