"""The four tasks: where their sentences come from, how they are split, and what a `Task` holds."""

import hashlib
import random
from collections.abc import Callable, Hashable, Iterable
from pathlib import Path
from typing import NamedTuple

from helpers import french, grammar, integers, patterns, translation
from helpers.config import Config
from helpers.data import SPECIALS, Sentence, Vocab, reversal_pairs, tokenize, vocab_key


class Splits(NamedTuple):
    """The three parts of a data set; they share no element."""

    train: list
    valid: list
    test: list


class Task(NamedTuple):
    """What a model is trained and tested on: sentences, their vocabularies, the same as ids."""

    sentences: Splits  # of Sentence: the sources, as tokens
    references: Splits  # of Sentence: what they should become
    vocab: Vocab  # of the sources: of those for training, or of all numbers
    trg_vocab: Vocab  # of the references; when words are reversed, the same
    pairs: Splits  # of pairs of ids, for training and testing
    corpus: str | None = None  # the file that the text comes from; None is data that we generate
    left_out: int = 0  # sentences that are too long

    def digest(self) -> str:
        """A fingerprint of the sentences: the same text and splits, the same digest."""
        return hashlib.sha256(repr((self.sentences, self.references)).encode()).hexdigest()


def read_lines(path: str | Path) -> list[str]:
    """The lines of a UTF-8 text file. Raises OSError, or ValueError if it is not UTF-8."""
    try:
        with open(path, encoding="utf-8-sig", newline="\n") as file:
            return file.readlines()
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8 text (byte {error.start})") from None


TEST_SIZE, VALID_SIZE = 10_000, 2_000  # at most; small data give a quarter and a tenth


def sentence_key(sentence: Sentence) -> Sentence:
    """The vocabulary keys of its tokens; two sentences with the same key count as one."""
    return tuple(vocab_key(token) for token in sentence)


def bag(sentence: Sentence) -> Sentence:
    """The words of a sentence without their order; what has the same bag goes to the same part."""
    return tuple(sorted(sentence_key(sentence)))


def add_shuffled(sentences: Iterable[Sentence], seed: int) -> list[Sentence]:
    """The distinct ones of `sentences`, then each again in a random order, where that is new."""
    rng = random.Random(seed)
    distinct: dict[Sentence, Sentence] = {}
    for sentence in sentences:
        distinct.setdefault(sentence_key(sentence), sentence)
    for sentence in list(distinct.values()):
        shuffled = tuple(rng.sample(sentence, len(sentence)))
        distinct.setdefault(sentence_key(shuffled), shuffled)
    return list(distinct.values())


def split(items: Iterable, seed: int, group: Callable[..., Hashable] = bag) -> Splits:
    """Cuts distinct items at random into training, validation and test set.

    Those of the same `group` go to the same part. Sentences are grouped by their bag, so that the
    parts have not even a bag of words in common. Raises ValueError if that leaves a part empty.
    """
    groups: dict[Hashable, list] = {}
    for item in items:
        groups.setdefault(group(item), []).append(item)
    total = sum(len(members) for members in groups.values())
    test_size, valid_size = min(TEST_SIZE, total // 4), min(VALID_SIZE, total // 10)

    rng = random.Random(seed)
    parts = Splits([], [], [])
    for members in rng.sample(list(groups.values()), len(groups)):
        if len(parts.test) + len(members) <= test_size:
            parts.test.extend(members)
        elif len(parts.valid) + len(members) <= valid_size:
            parts.valid.extend(members)
        else:
            parts.train.extend(members)
    if not all(parts):
        raise ValueError(f"{total} different sentences are too few, or too much alike, to split")
    for part in parts:
        rng.shuffle(part)
    return parts


def load_task(config: Config, corpus: str | Path | None = None) -> Task:
    """The data of `config.task`. Raises ValueError for a corpus with a task that reads none."""
    if config.task in ("words", "translate"):
        reader = reversal_task if config.task == "words" else translation_task
        return reader(config, None if corpus is None else str(Path(corpus).resolve()))
    if corpus is not None:
        raise ValueError("only the tasks words and translate read a corpus")
    return integer_task(config) if config.task == "integers" else pattern_task(config)


def reversal_task(config: Config, corpus: str | None = None) -> Task:
    """The graded assignment: half correct sentences, half the same words in random order.

    The sentences come from our grammar or, if `corpus` names a text file, from its lines of 1 to
    `config.max_length` words. Raises OSError or ValueError if the file cannot be used.
    """
    left_out = 0
    if corpus is None:
        found = grammar.sentences(config.per_length, config.max_length, config.seed)
    else:
        lines = [tokenize(line) for line in read_lines(corpus)]
        found = [tokens for tokens in lines if 1 <= len(tokens) <= config.max_length]
        left_out = sum(len(tokens) > config.max_length for tokens in lines)
    try:
        sentences = split(add_shuffled(found, config.seed), config.seed)
    except ValueError as error:
        raise ValueError(f"{corpus or 'the grammar'}: {error}") from None
    vocab = Vocab.build(sentences.train)
    pairs = Splits(
        reversal_pairs(sentences.train, vocab, config.unk_rate, config.seed),
        reversal_pairs(sentences.valid, vocab),
        reversal_pairs(sentences.test, vocab),
    )
    return Task(sentences, reverse_all(sentences), vocab, vocab, pairs, corpus, left_out)


def reverse_all(sentences: Splits) -> Splits:
    """The sentences in reversed order of words."""
    return Splits(*([sentence[::-1] for sentence in part] for part in sentences))


def integer_task(config: Config) -> Task:
    """The second task: random integers, all of them known. Nothing but order can be learned.

    Raises ValueError if there are too few sequences to split.
    """
    found = integers.sequences(config.per_length, config.max_length, config.vocab_size, config.seed)
    sentences = split(found, config.seed)
    words = [str(integer) for integer in range(integers.FIRST, config.vocab_size)]
    vocab = Vocab([*SPECIALS[: integers.FIRST], *words])
    pairs = Splits(*(reversal_pairs(part, vocab) for part in sentences))
    return Task(sentences, reverse_all(sentences), vocab, vocab, pairs)


def pattern_task(config: Config) -> Task:
    """The third task: patterns of digits, to be continued. No pattern is in two parts of the data;
    what repeats may be, at another length. Raises ValueError if there are too few to split.
    """
    found = patterns.sequences(config.per_length, config.max_length, config.seed)
    sentences = split(found, config.seed, group=tuple)
    references = Splits(*([patterns.continuation(digits) for digits in part] for part in sentences))
    vocab = Vocab([*SPECIALS[: integers.FIRST], *"0123456789"])
    return encoded(sentences, references, vocab, vocab)


def translation_task(config: Config, corpus: str | None = None) -> Task:
    """The fourth task: from English to French. The sentences come from our grammar or, if `corpus`
    names one, from a tab-separated file (see `translation.read_pairs`); both sides have at most
    `config.max_length` tokens. Raises OSError or ValueError if the file cannot be used.
    """
    if corpus is None:
        found = french.pairs(config.per_length * config.max_length, config.seed)
    else:
        found = translation.read_pairs(read_lines(corpus), corpus)
    pairs = [tuple(translation.tokenize(text) for text in pair) for pair in found]
    short = [pair for pair in pairs if max(map(len, pair)) <= config.max_length]
    try:
        parts = split(short, config.seed, group=lambda pair: pair[0])
    except ValueError as error:
        raise ValueError(f"{corpus or 'the grammar'}: {error}") from None
    sentences, references = (
        Splits(*([pair[i] for pair in part] for part in parts)) for i in (0, 1)
    )
    vocab, trg_vocab = (Vocab.build(side.train, exact=True) for side in (sentences, references))
    task = encoded(sentences, references, vocab, trg_vocab)
    return task._replace(corpus=corpus, left_out=len(pairs) - len(short))


def read_examples(path: str | Path, task: str) -> tuple[list[Sentence], list[Sentence]]:
    """The sentences of a file to test on, one a line, and what they should become; for the task
    translate pairs of them. Raises OSError, or ValueError if there is no sentence.
    """
    lines = read_lines(path)
    if task == "translate":
        pairs = translation.read_pairs(lines, str(path))
        sentences, references = (
            [translation.tokenize(pair[side]) for pair in pairs] for side in (0, 1)
        )
    else:
        answer = patterns.continuation if task == "patterns" else (lambda tokens: tokens[::-1])
        sentences = [tokenize(line) for line in lines if line.strip()]
        references = [answer(tokens) for tokens in sentences]
    if not sentences:
        raise ValueError(f"{path} holds no sentence")
    return sentences, references


def encoded(sentences: Splits, references: Splits, vocab: Vocab, trg_vocab: Vocab) -> Task:
    """The task of turning sentences into references, with its pairs of ids."""
    pairs = Splits(
        *(
            [(vocab.encode(src), trg_vocab.encode(trg)) for src, trg in zip(*parts, strict=True)]
            for parts in zip(sentences, references, strict=True)
        )
    )
    return Task(sentences, references, vocab, trg_vocab, pairs)
