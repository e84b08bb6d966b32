"""From text to batches of ids: tokens, vocabulary, pairs, padding."""

import random
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils.data import Dataset

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
    A token is looked up by its `vocab_key` or, in a vocabulary that is `exact`, as it is. Raises
    ValueError for a word that is there twice.
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
        """The ids of tokens; a token whose key is not in the vocabulary becomes `UNK`.

        Raises ValueError for such a token if the vocabulary has no "<unk>".
        """
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
    """Pads pairs of id lists to one `Batch`. Raises ValueError if there is none, and for a source
    without a token.
    """
    if not all(src for src, _ in pairs):
        raise ValueError("a source without a token")
    return Batch(
        pad([src for src, _ in pairs]),
        torch.tensor([len(src) for src, _ in pairs]),
        pad([[BOS, *trg] for _, trg in pairs]),
        pad([[*trg, EOS] for _, trg in pairs]),
    )


def pad(rows: Iterable[list[int]]) -> Tensor:
    """Lists of ids as the rows of one tensor (B, longest), filled up with `PAD`. Raises ValueError
    if there is none.
    """
    rows = list(rows)
    if not rows:
        raise ValueError("no sentence to make a batch of")
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

    With `bucket`, sentences of similar length share a batch, which leaves little to pad. Raises
    ValueError for a `batch_size` of less than 1.
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
