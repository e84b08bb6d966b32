"""English to French, the fourth task: tokens, and back; pairs from a tab-separated file."""

import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from helpers.data import Sentence, Splits, TaskData, Vocab, split
from helpers.runs.fields import number
from helpers.tasks import french
from helpers.tasks.task import LONGEST, PER_LENGTH, Task, encoded, read_lines

ELIDED = r"\b(?:[cdjlmnst]|qu|lorsqu|puisqu|jusqu)'(?=\w)"  # l' in l'homme: a token of its own
WORD = r"\w+(?:['-]\w+)*"  # with what is inside it: don't, peut-être, aujourd'hui
TOKEN = re.compile(rf"{ELIDED}|{WORD}|[^\w\s]")


@dataclass(frozen=True)
class Translation(Task):
    """English sentences are to be translated to French."""

    name = "translate"
    reads_corpus = True

    max_length: int = number(12, 3, 200, LONGEST)
    per_length: int = number(2400, 1, 100_000, PER_LENGTH)

    def load(self, seed: int, corpus: str | None = None) -> TaskData:
        """Pairs from our grammar or, if `corpus` names one, from a tab-separated file (see
        `read_pairs`); the parts share no source sentence. Raises OSError or ValueError if the file
        cannot be used.
        """
        if corpus is None:
            texts = french.pairs(self.per_length * self.max_length, seed)
        else:
            texts = read_pairs(read_lines(corpus), corpus)
        pairs = [tuple(tokenize(text) for text in pair) for pair in texts]
        short = [pair for pair in pairs if max(map(len, pair)) <= self.max_length]
        try:
            parts = split(short, seed, group=lambda pair: pair[0])
        except ValueError as error:
            raise ValueError(f"{corpus or 'the grammar'}: {error}") from None
        sides = (Splits(*([pair[i] for pair in part] for part in parts)) for i in (0, 1))
        sentences, references = sides
        vocab, trg_vocab = (Vocab.build(side.train, exact=True) for side in (sentences, references))
        data = encoded(sentences, references, vocab, trg_vocab)
        return data._replace(left_out=len(pairs) - len(short))

    def tokenize(self, line: str) -> Sentence:
        return tokenize(line)

    def join(self, tokens: Iterable[str]) -> str:
        return detokenize(tokens)

    def examples(self, path: str | Path) -> tuple[list[Sentence], list[Sentence]]:
        pairs = read_pairs(read_lines(path), str(path))
        if not pairs:
            raise ValueError(f"{path} holds no sentence")
        sentences, references = zip(*((tokenize(a), tokenize(b)) for a, b in pairs), strict=True)
        return list(sentences), list(references)


def tokenize(text: str) -> Sentence:
    """Words in lower case, elided words and punctuation marks, each a token of its own."""
    text = (
        unicodedata.normalize("NFC", text).lower().replace("\N{RIGHT SINGLE QUOTATION MARK}", "'")
    )
    return tuple(TOKEN.findall(text))


def detokenize(tokens: Iterable[str]) -> str:
    """Tokens as a French sentence: "l'" is joined to its word, a full stop to what it ends."""
    text = re.sub(r" ([.,)…])|(\() ", r"\1\2", " ".join(tokens))
    text = re.sub(r"(?<![^\s(])(\w+') ", r"\1", text)
    return text[:1].upper() + text[1:]


def read_pairs(lines: Iterable[str], name: str) -> list[tuple[str, str]]:
    """Pairs of texts from lines `english<tab>french`, as the Anki files of manythings.org have
    them; whatever follows a second tab, such as an attribution, is ignored, and so are blank lines.
    Of several translations of the same tokens the first is taken.

    Raises ValueError for a line without two texts; it says that the file is called `name`.
    """
    pairs: dict[Sentence, tuple[str, str]] = {}
    for i, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        source, _, rest = line.strip("\r\n").partition("\t")
        target = rest.partition("\t")[0]
        if not (source.strip() and target.strip()):
            raise ValueError(f"{name}: line {i} is not english<tab>french")
        pairs.setdefault(tokenize(source), (source.strip(), target.strip()))
    return list(pairs.values())
