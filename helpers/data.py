"""From text to batches of ids: tokens, vocabulary, splits, the two reversal tasks, padding."""

import hashlib
import random
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils.data import Dataset

from helpers import grammar, integers
from helpers.config import Config

PAD, BOS, EOS, UNK = range(4)
SPECIALS = ("<pad>", "<bos>", "<eos>", "<unk>")

Sentence = tuple[str, ...]  # its tokens
Pair = tuple[list[int], list[int]]  # ids of source and target, without <bos> and <eos>


def tokenize(line: str) -> Sentence:
    """The tokens of a line: what whitespace separates."""
    return tuple(line.split())


def reverse_words(line: str) -> str:
    """The task itself, solved by rule: the reference for every prediction."""
    return " ".join(reversed(line.split()))


@lru_cache(maxsize=100_000)
def vocab_key(token: str) -> str:
    """The form in which a token is looked up: lower case, without surrounding punctuation.

    Symbols such as "$" or "<" count as punctuation; a token of nothing else is its own key.
    """
    marks = [unicodedata.category(char)[0] in "PS" for char in token]
    if all(marks):
        return token
    start, stop = marks.index(False), len(marks) - marks[::-1].index(False)
    return token[start:stop].lower()


class Vocab:
    """A two-way map between words and ids: the id of a word is its place in `words`.

    Ids 0 to 2 belong to `PAD`, `BOS` and `EOS`. If "<unk>" is among the words, its id is `UNK`, 3.
    """

    def __init__(self, words: Iterable[str]):
        self.words = list(words)
        self.ids = {word: i for i, word in enumerate(self.words)}

    @classmethod
    def build(cls, sentences: Iterable[Sentence]) -> "Vocab":
        """The vocabulary of some sentences: the keys of their tokens, in alphabetical order."""
        words = {vocab_key(token) for sentence in sentences for token in sentence}
        return cls([*SPECIALS, *sorted(words)])

    def __len__(self) -> int:
        return len(self.words)

    def knows(self, tokens: Iterable[str]) -> bool:
        """Whether all of the tokens can be encoded."""
        return "<unk>" in self.ids or all(vocab_key(token) in self.ids for token in tokens)

    def encode(self, tokens: Sequence[str]) -> list[int]:
        """The ids of tokens; a token whose key is not in the vocabulary becomes `UNK`.

        Raises ValueError for such a token if the vocabulary has no "<unk>".
        """
        ids = [self.ids.get(vocab_key(token), self.ids.get("<unk>")) for token in tokens]
        if None in ids:
            raise ValueError(f"{tokens[ids.index(None)]!r} is not in the vocabulary")
        return ids

    def decode(self, ids: Iterable[int]) -> list[str]:
        """The words of ids. Raises IndexError for an id outside the vocabulary."""
        return [self.words[i] for i in ids]


class Splits(NamedTuple):
    """The three parts of a data set; they share no element."""

    train: list
    valid: list
    test: list


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


def split(sentences: Iterable[Sentence], seed: int) -> Splits:
    """Cuts distinct sentences at random into training, validation and test set.

    Sentences of the same words in different order go to the same part, so that the parts have not
    even a bag of words in common. Raises ValueError if that leaves a part empty.
    """
    bags: dict[Sentence, list[Sentence]] = {}
    for sentence in sentences:
        bags.setdefault(tuple(sorted(sentence_key(sentence))), []).append(sentence)
    total = sum(len(group) for group in bags.values())
    test_size, valid_size = min(TEST_SIZE, total // 4), min(VALID_SIZE, total // 10)

    rng = random.Random(seed)
    parts = Splits([], [], [])
    for group in rng.sample(list(bags.values()), len(bags)):
        if len(parts.test) + len(group) <= test_size:
            parts.test.extend(group)
        elif len(parts.valid) + len(group) <= valid_size:
            parts.valid.extend(group)
        else:
            parts.train.extend(group)
    if not all(parts):
        raise ValueError(f"{total} different sentences are too few, or too much alike, to split")
    for part in parts:
        rng.shuffle(part)
    return parts


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


def reversal_pairs(
    sentences: Iterable[Sentence], vocab: Vocab, unk_rate: float = 0.0, seed: int = 0
) -> ReversalDataset:
    """Each sentence as ids, and the same ids reversed.

    In a share `unk_rate` of the sentences a random part of the words, on both sides, becomes `UNK`:
    that is how a model learns to reverse words that it does not know.
    """
    rng = random.Random(seed)
    sources = []
    for sentence in sentences:
        src = vocab.encode(sentence)
        if rng.random() < unk_rate:
            share = rng.random()
            src = [UNK if rng.random() < share else i for i in src]
        sources.append(src)
    return ReversalDataset(sources)


class Task(NamedTuple):
    """What a model is trained and tested on: the text, its vocabulary, and the same text as ids."""

    sentences: Splits  # of Sentence; the integers are written in digits
    vocab: Vocab  # of the training sentences, or of all integers
    pairs: Splits  # of ReversalDataset
    corpus: str | None = None  # the file that the text comes from; None is our own grammar
    left_out: int = 0  # lines of the corpus that are too long

    def digest(self) -> str:
        """A fingerprint of the sentences: the same text and splits, the same digest."""
        return hashlib.sha256(repr(self.sentences).encode()).hexdigest()


def reversal_task(config: Config, corpus: str | Path | None = None) -> Task:
    """The graded assignment: half correct sentences, half the same words in random order.

    The sentences come from our grammar or, if `corpus` names a text file, from its lines of 1 to
    `config.max_length` words. Raises OSError or ValueError if the file cannot be used.
    """
    left_out = 0
    if corpus is None:
        found = grammar.sentences(config.per_length, config.max_length, config.seed)
    else:
        corpus = str(Path(corpus).resolve())
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
    return Task(sentences, vocab, pairs, corpus, left_out)


def integer_task(config: Config) -> Task:
    """The second task: random integers, all of them known. Nothing but order can be learned.

    Raises ValueError if there are too few sequences to split.
    """
    found = integers.sequences(config.per_length, config.max_length, config.vocab_size, config.seed)
    sentences = split(found, config.seed)
    words = [str(integer) for integer in range(integers.FIRST, config.vocab_size)]
    vocab = Vocab([*SPECIALS[: integers.FIRST], *words])
    return Task(sentences, vocab, Splits(*(reversal_pairs(part, vocab) for part in sentences)))


def load_task(config: Config, corpus: str | Path | None = None) -> Task:
    """The data of `config.task`. Raises ValueError for a corpus with a task that reads none."""
    if config.task == "integers":
        if corpus is not None:
            raise ValueError("only the words task reads a corpus")
        return integer_task(config)
    return reversal_task(config, corpus)


def every(rows: Tensor, i: int, parts: int) -> Tensor:
    """Every `parts`-th row from the i-th on; the first row if there is none."""
    return rows[i::parts] if i < len(rows) else rows[:1]


class Batch(NamedTuple):
    """B pairs side by side, padded with `PAD` to the longest. S and T are the padded lengths."""

    src: Tensor  # (B, S) ids of the source
    src_lens: Tensor  # (B,) number of real tokens in each source
    trg_in: Tensor  # (B, T) <bos> and the target: what the decoder reads
    trg_out: Tensor  # (B, T) the target and <eos>: what the decoder should predict

    def tokens(self) -> int:
        """The number of real tokens in the target."""
        return int((self.trg_out != PAD).sum())

    def part(self, i: int, parts: int) -> "Batch":
        """Every `parts`-th pair from the i-th on, padded as before. A part without a pair is given
        one whose target is only padding, which adds nothing to loss and gradient.
        """
        part = Batch(*(every(rows, i, parts) for rows in self))
        if i >= len(self.src):
            part = part._replace(trg_out=torch.full_like(part.trg_out, PAD))
        return part

    def to(self, device: str | torch.device) -> "Batch":
        """The same batch in the memory of `device`."""
        return Batch(*(rows.to(device) for rows in self))


def collate(pairs: list[Pair]) -> Batch:
    """Pads pairs of id lists to one `Batch`."""
    return Batch(
        pad([src for src, _ in pairs]),
        torch.tensor([len(src) for src, _ in pairs]),
        pad([[BOS, *trg] for _, trg in pairs]),
        pad([[*trg, EOS] for _, trg in pairs]),
    )


def pad(rows: Iterable[list[int]]) -> Tensor:
    """Lists of ids as the rows of one tensor (B, longest), filled up with `PAD`."""
    rows = list(rows)
    longest = max(map(len, rows))
    return torch.tensor([row + [PAD] * (longest - len(row)) for row in rows], dtype=torch.long)


BUCKET = 50  # batches whose sentences are sorted by length together


def batches(
    pairs: Sequence[Pair] | ReversalDataset,
    batch_size: int,
    seed: int,
    epoch: int,
    bucket: bool = True,
) -> Iterator[Batch]:
    """The pairs in random order, in batches; a function of (seed, epoch) alone.

    With `bucket`, sentences of similar length share a batch, which leaves little to pad.
    """
    rng = random.Random(f"{seed}, {epoch}")
    order = [pairs[i] for i in rng.sample(range(len(pairs)), len(pairs))]
    if bucket:
        size = BUCKET * batch_size
        pools = [order[i : i + size] for i in range(0, len(order), size)]
        order = [pair for pool in pools for pair in sorted(pool, key=lambda pair: len(pair[0]))]
    starts = list(range(0, len(order), batch_size))
    rng.shuffle(starts)
    for start in starts:
        yield collate(order[start : start + batch_size])
