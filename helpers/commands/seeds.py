"""Is it luck? `python -m helpers seeds` trains three models from several seeds and measures them.

Prints comma-separated values. The model of the assignment has one line a seed: how many of its
10,000 test sentences of 1 to 12 words its best epoch reverses without a fault; so has the same
model without its attention, with all else equal. Of the first it is also counted at how many source
words their own step looks most ("alignment"), and how many sentences of random words, some longer
than those of its training, it reverses. The model for any length has a line for each seed, length
and share of words that are unseen. To it, all unseen words are the same `<unk>`: of sentences
without any other word it has seen one when it has seen them all.
"""

import argparse
import random
import sys
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory

from torch import nn
from tqdm import tqdm

from helpers.data import SPECIALS, UNK, TaskData
from helpers.decoding import decode
from helpers.metrics import alignment_accuracy, matches
from helpers.runs import checkpoint
from helpers.runs.loop import fit_apart
from helpers.runs.settings import Settings
from helpers.search.answers import answer_ids, right_answers
from helpers.search.copying import decode_by_copying

PLAIN, BLIND = Settings.of(), Settings.of(attention="none")
ANY_LENGTH = Settings.of(attention="location")
COUNTS = {  # words in a sentence and share of them that are unseen: how many sentences
    **{(length, unseen): 200 for length in (10, 100) for unseen in (1.0, 0.5, 0.0)},
    **{(1_000, unseen): 50 for unseen in (1.0, 0.5)},
    **{(10_000, unseen): 5 for unseen in (1.0, 0.5)},
}

LONGER = (12, 13, 14, 15, 16)  # words of sentences for the model of the assignment


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


def count_right(model: nn.Module, sources: list[list[int]]) -> int:
    """How many of the sources a model that copies reads from the last place to the first. Equal
    ones are decoded once.
    """
    distinct = Counter(map(tuple, sources))
    answers = decode_by_copying(model, [list(src) for src in distinct])
    both = zip(distinct.items(), answers, strict=True)
    return sum(n for (src, n), places in both if places == list(range(len(src), 0, -1)))


def measure(model: nn.Module, vocab_size: int, length: int, unseen: float, seed: int) -> dict:
    """One line of the table, of the model for any length."""
    sources = random_sources(length, COUNTS[length, unseen], unseen, vocab_size, seed)
    right = count_right(model, sources)
    line = {"model": "any length", "seed": seed, "words": length, "unseen": unseen}
    return line | {"right": right, "of": len(sources)}


def measure_longer(best: checkpoint.Checkpoint, seed: int) -> list[dict]:
    """The lines of the model of the assignment where its training ends, and beyond."""
    lines = []
    for length in LONGER:
        sources = random_sources(length, 200, 0.0, len(best.vocab), seed)
        right = sum(matches(answer_ids(best.model, sources), [src[::-1] for src in sources]))
        line = {"model": "assignment", "seed": seed, "words": length, "unseen": 0.0}
        lines.append(line | {"right": right, "of": len(sources)})
    return lines


def measure_alignment(best: checkpoint.Checkpoint, data: TaskData, seed: int) -> dict:
    """The line that says where the model of the assignment looks on its test set."""
    sources = [src for src, _ in data.pairs.test]
    lengths = [len(src) for src in sources]
    answers = decode(best.model, sources)
    weights = [answer.weights[: len(answer.ids)] for answer in answers]  # without <eos>
    right = round(alignment_accuracy(weights, lengths) * sum(lengths))
    line = {"model": "alignment", "seed": seed, "words": "1 to 12", "unseen": 0.0}
    return line | {"right": right, "of": sum(lengths)}


def trained(settings: Settings, name: str) -> checkpoint.Checkpoint:
    """The checkpoint `name` of a run with the settings."""
    with TemporaryDirectory() as place:
        fit_apart(settings, Path(place))
        return checkpoint.load(Path(place, name))


def measure_test(model: nn.Module, data: TaskData, name: str, seed: int) -> dict:
    """The line of a model, called `name`, on its test set."""
    sentences, references = data.sentences.test, data.references.test
    right = sum(right_answers(model, data, sentences, references))
    line = {"model": name, "seed": seed, "words": "1 to 12", "unseen": 0.0}
    return line | {"right": right, "of": len(sentences)}


def train_and_measure(seed: int) -> list[dict]:
    """All lines of one seed."""
    data = PLAIN.task.load(seed)
    best, blind = (trained(kind.having(seed=seed), "best.pt") for kind in (PLAIN, BLIND))
    lines = [measure_test(best.model, data, "assignment", seed)]
    lines += measure_longer(best, seed)
    lines += [measure_alignment(best, data, seed)]
    lines += [measure_test(blind.model, data, "no attention", seed)]
    last = trained(ANY_LENGTH.having(seed=seed), "last.pt")
    return lines + [measure(last.model, len(last.vocab), *case, seed) for case in COUNTS]


def run(args: argparse.Namespace) -> None:
    """Prints the lines of each seed as soon as they are known; two are trained at a time."""
    if not 1 <= args.seeds <= 1000:
        raise ValueError(f"--seeds must lie between 1 and 1000, not {args.seeds}")
    with ProcessPoolExecutor(2, get_context("spawn")) as processes:
        tables = processes.map(train_and_measure, range(1, args.seeds + 1))
        try:
            for i, lines in enumerate(tqdm(tables, "seeds", args.seeds)):
                if i == 0:
                    print(*lines[0], sep=",")
                for line in lines:
                    print(*line.values(), sep=",")
                sys.stdout.flush()
        except OSError:  # nobody can read the rest
            processes.shutdown(wait=False, cancel_futures=True)
            raise
