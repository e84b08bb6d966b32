"""Sequences of random integers: the second task, which has no grammar at all."""

import random

from torch.utils.data import Dataset

from helpers.data import SPECIALS, Pair, Sentence, Splits, TaskData, Vocab, reversal_pairs, split

FIRST = 3  # ids 0 to 2 are <pad>, <bos> and <eos>


def load(seed: int, max_length: int, per_length: int, vocab_size: int) -> TaskData:
    """All integers are known. Raises ValueError if there are too few sequences to split."""
    sources = sequences(per_length, max_length, vocab_size, seed)
    try:
        sentences = split(sources, seed)
    except ValueError as error:
        raise ValueError(f"{error}: choose a higher per_length or max_length") from None
    references = Splits(*([sentence[::-1] for sentence in part] for part in sentences))
    words = [str(integer) for integer in range(FIRST, vocab_size)]
    vocab = Vocab([*SPECIALS[:FIRST], *words])
    pairs = (ReversalDataset([src for src, _ in reversal_pairs(part, vocab)]) for part in sentences)
    return TaskData(sentences, references, vocab, vocab, Splits(*pairs))


class ReversalDataset(Dataset[Pair]):
    """Pairs of a source and its reversal: a list of pairs that makes the targets when asked.

    Serves `batches` as well as torch's own `DataLoader(..., collate_fn=collate)`.
    """

    def __init__(self, sources: list[list[int]]):
        self.sources = sources

    def __len__(self) -> int:
        return len(self.sources)

    def __getitem__(self, i: int | slice) -> Pair | list[Pair]:
        if isinstance(i, slice):
            return [(src, src[::-1]) for src in self.sources[i]]
        return self.sources[i], self.sources[i][::-1]


def sequences(per_length: int, max_length: int, vocab_size: int, seed: int = 0) -> list[Sentence]:
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
        sources = {}  # a dictionary serves as a set that remembers the order of insertion
        while len(sources) < min(per_length, count**length):
            sources[tuple(str(rng.randrange(FIRST, vocab_size)) for _ in range(length))] = None
        pool.extend(sources)
    rng.shuffle(pool)
    return pool
