"""From text to batches of ids: tokens, vocabulary, pairs, three parts of the data, padding."""

import random
import unicodedata
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

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
    """A two-way map between words and ids: the id of a word is its place in `words`. The first are
    `SPECIALS`; "<unk>" may be missing. A token is looked up by its `vocab_key` or, in a vocabulary
    that is `exact`, as it is. Raises ValueError for a word that is there twice.
    """

    def __init__(self, words: Iterable[str], exact: bool = False):
        self.words, self.exact = list(words), exact
        self.key = str if exact else vocab_key
        self.ids = {word: i for i, word in enumerate(self.words)}
        if len(self.ids) < len(self.words):
            twice = next(word for i, word in enumerate(self.words) if self.ids[word] != i)
            raise ValueError(f"{twice!r} is in the vocabulary twice")

    @classmethod
    def build(cls, sentences: Iterable[Sentence], exact: bool = False) -> "Vocab":
        """The vocabulary of some sentences: the keys of their tokens, in alphabetical order."""
        words = {token if exact else vocab_key(token) for tokens in sentences for token in tokens}
        return cls([*SPECIALS, *sorted(words)], exact)

    def __len__(self) -> int:
        return len(self.words)

    def unknown(self, tokens: Iterable[str]) -> list[str]:
        """Those of the tokens that are not in the vocabulary."""
        return [token for token in tokens if self.key(token) not in self.ids]

    def knows(self, tokens: Iterable[str]) -> bool:
        """Whether all of the tokens can be encoded, be it as `UNK`."""
        return "<unk>" in self.ids or not self.unknown(tokens)

    def encode(self, tokens: Sequence[str]) -> list[int]:
        """The ids of tokens, of one that is unknown `UNK`; raises ValueError without "<unk>"."""
        ids = [self.ids.get(self.key(token), self.ids.get("<unk>")) for token in tokens]
        if None in ids:
            raise ValueError(f"{tokens[ids.index(None)]!r} is not in the vocabulary")
        return ids

    def decode(self, ids: Iterable[int]) -> list[str]:
        """The words of ids. Raises ValueError for an id outside the vocabulary."""
        ids = list(ids)
        if outside := [i for i in ids if not 0 <= i < len(self)]:
            raise ValueError(f"{outside[0]} is no id of a vocabulary of {len(self)} words")
        return [self.words[i] for i in ids]


def reversal_pairs(
    sentences: Iterable[Sentence], vocab: Vocab, unk_rate: float = 0.0, seed: int = 0
) -> list[Pair]:
    """Each sentence as ids, and the same reversed. In a share `unk_rate` of them a random part of
    the words, on both sides, becomes `UNK`: so a model learns to reverse what it does not know.
    """
    rng = random.Random(seed)
    pairs = []
    for sentence in sentences:
        src = vocab.encode(sentence)
        if rng.random() < unk_rate:
            share = rng.random()
            src = [UNK if rng.random() < share else i for i in src]
        pairs.append((src, src[::-1]))
    return pairs


class Splits(NamedTuple):
    """The three parts of a data set; they share no element."""

    train: list
    valid: list
    test: list


class TaskData(NamedTuple):
    """What a model is trained and tested on: sentences, their vocabularies, the same as ids."""

    sentences: Splits  # of Sentence: the sources, as tokens
    references: Splits  # of Sentence: what they should become
    vocab: Vocab  # of the sources: of those for training, or of all numbers
    trg_vocab: Vocab  # of the references; when words are reversed, the same
    pairs: Splits  # of pairs of ids, for training and testing
    left_out: int = 0  # sentences that are too long
    texts: Splits | None = None  # of (str, ...): all references of each as written, if known


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
    """Cuts distinct items at random into training, validation and test set, those of a `group` into
    the same part (sentences by their bag). Raises ValueError if that leaves a part empty.
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


def reversal_data(sentences: Iterable[Sentence], seed: int = 1, unk_rate: float = 0.2) -> TaskData:
    """The data of the assignment: half of it the `sentences`, half their words in random order. The
    vocabulary is that of the training part, in which a share `unk_rate` of the sentences is masked
    (see `reversal_pairs`). Raises ValueError if there is too little to split.
    """
    parts = split(add_shuffled(sentences, seed), seed)
    vocab = Vocab.build(parts.train)
    pairs = Splits(
        reversal_pairs(parts.train, vocab, unk_rate, seed),
        reversal_pairs(parts.valid, vocab),
        reversal_pairs(parts.test, vocab),
    )
    references = Splits(*([sentence[::-1] for sentence in part] for part in parts))
    return TaskData(parts, references, vocab, vocab, pairs)


class Batch(NamedTuple):
    """B pairs side by side, padded with `PAD` to the longest. S and T are the padded lengths."""

    src: Tensor  # (B, S) ids of the source
    src_lens: Tensor  # (B,) number of real tokens in each source
    trg_in: Tensor  # (B, T) <bos> and the target: what the decoder reads
    trg_out: Tensor  # (B, T) the target and <eos>: what the decoder should predict

    def to(self, device: str | torch.device) -> "Batch":
        """The same batch in the memory of `device`; the lengths, which packing wants, stay."""
        src, _, *trg = (rows.to(device, non_blocking=True) for rows in self)
        return Batch(src, self.src_lens, *trg)


def collate(pairs: list[Pair]) -> Batch:
    """Pads pairs to a `Batch`. Raises ValueError for none, and for a source without a token."""
    if not all(src for src, _ in pairs):
        raise ValueError("a source without a token")
    return Batch(
        pad([src for src, _ in pairs]),
        torch.tensor([len(src) for src, _ in pairs]),
        pad([[BOS, *trg] for _, trg in pairs]),
        pad([[*trg, EOS] for _, trg in pairs]),
    )


def pad(rows: Iterable[list[int]]) -> Tensor:
    """Lists of ids, one at least, as the rows of a tensor (B, longest), filled up with `PAD`."""
    rows = list(rows)
    if not rows:
        raise ValueError("no sentence to make a batch of")
    longest = max(map(len, rows))
    return torch.tensor([row + [PAD] * (longest - len(row)) for row in rows], dtype=torch.long)


BUCKET = 50  # batches whose sentences are sorted by length together


def batches(
    pairs: Sequence[Pair], batch_size: int, seed: int, epoch: int, bucket: bool = True
) -> Iterator[Batch]:
    """The pairs in random order, in batches; a function of (seed, epoch) alone. With `bucket`,
    sentences of similar length share a batch, which leaves little to pad. Raises ValueError for a
    `batch_size` of less than 1.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, not {batch_size}")
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
