"""Sequences of random integers: the sources of the second task, which has no grammar at all."""

import random

FIRST = 3  # ids 0 to 2 are <pad>, <bos> and <eos>


def sequences(
    per_length: int, max_length: int, vocab_size: int, seed: int = 0
) -> list[tuple[str, ...]]:
    """Distinct sequences of 1 to `max_length` integers from [3, vocab_size), written in digits, in
    random order: `per_length` of each length, or all of a length that has no more.

    Raises ValueError if `vocab_size` leaves no integers.
    """
    count = vocab_size - FIRST
    if count < 1:
        raise ValueError(f"a vocab_size of {vocab_size} leaves no integers: it must be 4 or more")
    rng = random.Random(seed)
    pool = []
    for length in range(1, max_length + 1):
        found = {}  # a dictionary serves as a set that remembers the order of insertion
        while len(found) < min(per_length, count**length):
            found[tuple(str(rng.randrange(FIRST, vocab_size)) for _ in range(length))] = None
        pool.extend(found)
    rng.shuffle(pool)
    return pool
