"""Is it luck? The model for any length, trained from several seeds: `python -m helpers.seeds`.

Prints comma-separated values, a line for each seed, length and share of words that are unseen: how
many sentences of so many words the model reversed without a fault after its last epoch, and how
many seconds its training took. To the model, all unseen words are the same `<unk>`: of sentences
without any other word it has seen one when it has seen them all.
"""

import random
import sys
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory

import pandas as pd
from tqdm import tqdm

from helpers import checkpoint
from helpers.__main__ import Parser, guarded
from helpers.config import Config
from helpers.data import SPECIALS, UNK
from helpers.decoding import decode_by_copying
from helpers.location import LocationSeq2Seq
from helpers.training import train_apart

ANY_LENGTH = Config(
    model="location", max_length=10, per_length=700, unk_rate=0.9, dropout=0.2, epochs=6
)
COUNTS = {  # words in a sentence and share of them that are unseen: how many sentences
    **{(length, unseen): 200 for length in (10, 100) for unseen in (1.0, 0.5, 0.0)},
    **{(1_000, unseen): 50 for unseen in (1.0, 0.5)},
    (10_000, 1.0): 2,
}


def random_sources(
    length: int, count: int, unseen: float, vocab_size: int, seed: int
) -> list[list[int]]:
    """`count` sentences of `length` ids, each `UNK` with the probability `unseen`, or else one of
    the words of a vocabulary.
    """
    rng = random.Random(seed)

    def draw() -> int:
        return UNK if rng.random() < unseen else rng.randrange(len(SPECIALS), vocab_size)

    return [[draw() for _ in range(length)] for _ in range(count)]


def count_right(model: LocationSeq2Seq, sources: list[list[int]]) -> int:
    """How many of the sources the model reads from the last place to the first. Equal ones are
    decoded once.
    """
    distinct = Counter(map(tuple, sources))
    answers = decode_by_copying(model, [list(src) for src in distinct])
    both = zip(distinct.items(), answers, strict=True)
    return sum(n for (src, n), places in both if places == list(range(len(src), 0, -1)))


def measure(model: LocationSeq2Seq, vocab_size: int, length: int, unseen: float, seed: int) -> dict:
    """One line of the table."""
    sources = random_sources(length, COUNTS[length, unseen], unseen, vocab_size, seed)
    right = count_right(model, sources)
    return {"seed": seed, "words": length, "unseen": unseen, "right": right, "of": len(sources)}


def train_and_measure(seed: int) -> pd.DataFrame:
    """All lines of one seed, with the seconds that its training took."""
    with TemporaryDirectory() as place:
        _, seconds = train_apart(replace(ANY_LENGTH, seed=seed), Path(place))
        last = checkpoint.load(Path(place, "last.pt"))
    lines = [measure(last.model, len(last.vocab), *case, seed) for case in COUNTS]
    return pd.DataFrame(lines).assign(seconds=round(seconds, 1))


def print_table(count: int) -> None:
    """The table of the seeds from 1 to `count`."""
    with ProcessPoolExecutor(2, get_context("spawn")) as processes:
        tables = processes.map(train_and_measure, range(1, count + 1))
        try:
            for i, table in enumerate(tqdm(tables, "seeds", count)):
                table.to_csv(sys.stdout, index=False, header=i == 0)
                sys.stdout.flush()
        except OSError:  # nobody can read the rest
            processes.shutdown(wait=False, cancel_futures=True)
            raise


def main() -> int:
    parser = Parser("python -m helpers.seeds", description=__doc__, allow_abbrev=False)
    parser.add_argument("--seeds", type=int, default=10, metavar="N", help="1 to N (default: 10)")
    count = parser.parse_args().seeds
    if not 1 <= count <= 1000:
        parser.error(f"--seeds must lie between 1 and 1000, not {count}")
    return guarded(partial(print_table, count), parser.prog)


if __name__ == "__main__":
    sys.exit(main())
