"""English to French, the fourth task: pairs of our grammar, or of tab-separated files."""

import logging
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from helpers.data import Sentence, Splits, TaskData, Vocab, split
from helpers.tasks import french
from helpers.tasks.subwords import Subwords
from helpers.tasks.task import Corpus, Examples, encoded, read_lines, too_few
from helpers.tasks.tokens import detokenize, tokenize


def load(
    seed: int, corpus: Corpus | None, max_length: int, per_length: int, subwords: int
) -> TaskData:
    """Pairs from our grammar or, if there is a `corpus`, from tab-separated files (see
    `read_pairs`). The parts share no source sentence. In training a sentence stands with each of
    its translations; in the other parts it stands once, with all of them as `texts`. Raises OSError
    or ValueError if a file cannot be used.
    """
    if corpus is None:
        rows, name = rows_of(generate(seed, max_length, per_length), subwords), "the grammar"
        count = len(rows)
    else:
        lines, name = read_lines(corpus.train), corpus.train
        rows = rows_of(read_pairs(lines, name), subwords)
        count = sum(map(bool, map(str.strip, lines)))
    short = [row for row in rows if subwords or row.fits(max_length)]
    valid, test = (read_rows(path, subwords) for path in (corpus[1:] if corpus else (None, None)))
    try:
        parts = cut(short, valid, test, seed)
    except ValueError as error:
        alike = count - len({row.key for row in rows})
        rest = len(rows) - len(short), max_length, alike
        raise too_few(error, name, count, *rest) from None
    left_out, sides = len(rows) - len(short), list(zip(*parts.train, strict=True))[1:3]
    if subwords:
        if subwords < (least := max(map(Subwords.least, sides))):
            raise ValueError(f"subwords must be at least {least} for this text, not {subwords}")
        vocabs = [Subwords.learn(side, subwords) for side in sides]
        parts = Splits(*([in_pieces(row, *vocabs) for row in part] for part in parts))
        train = [row for row in parts.train if row.fits(max_length)]
        if not train:
            raise ValueError(f"{name}: no pair of at most {max_length} pieces (max_length)")
        left_out, parts = len(parts.train) - len(train), parts._replace(train=train)
    else:
        vocabs = [Vocab.build(side, exact=True) for side in sides]
    columns = (Splits(*([row[i] for row in part] for part in parts)) for i in (1, 2, 3))
    sentences, references, texts = columns
    data = encoded(sentences, references, *vocabs)
    return data._replace(left_out=left_out, texts=texts)


def generate(seed: int, max_length: int, per_length: int) -> list[tuple[str, str]]:
    """Pairs from our grammar."""
    count = per_length * max_length
    if count > french.MAX_PAIRS:
        times = f"per_length {per_length} times max_length {max_length}"
        raise ValueError(f"{times} is more than the {french.MAX_PAIRS} pairs that there are")
    return french.pairs(count, seed)


def examples(path: str | Path, vocabs: Sequence[Vocab], subwords: int) -> Examples:
    """The sentences of a file of pairs, as in `Task.examples`."""
    rows = merge(read_rows(str(path), subwords))
    if subwords:
        rows = [in_pieces(row, *vocabs) for row in rows]
    return Examples(*map(list, list(zip(*rows, strict=True))[1:]))


def to_tokens(line: str, vocab: Vocab | None) -> Sentence:
    """The tokens of an English line: pieces, if the vocabulary has these, or words, in lower case,
    that need not become a text again.
    """
    return vocab.tokenize(line) if isinstance(vocab, Subwords) else tokenize(line.lower())


def to_line(tokens: Iterable[str], vocab: Vocab | None) -> str:
    """The French line that tokens make, be they pieces or words."""
    return vocab.join(tokens) if isinstance(vocab, Subwords) else detokenize(tokens)


class Row(NamedTuple):
    """A sentence with a translation."""

    key: Sentence  # its words in lower case; sentences with the same key are the same
    source: Sentence | str
    target: Sentence | str
    texts: tuple[str, ...]  # the translation as written, or several

    def fits(self, max_length: int) -> bool:
        """Whether neither side has more than `max_length` tokens."""
        return max(len(self.source), len(self.target)) <= max_length


def rows_of(pairs: Iterable[tuple[str, str]], subwords: int) -> list[Row]:
    """Pairs in words or, if they are to become pieces, as they are."""
    rows = [Row(tokenize(source.lower()), source, text, (text,)) for source, text in pairs]
    if subwords:
        return rows
    return [row._replace(source=row.key, target=tokenize(row.target)) for row in rows]


def read_rows(path: str | None, subwords: int) -> list[Row]:
    """The rows of a file of pairs, if there is one. Raises ValueError if it holds no sentence."""
    rows = rows_of(read_pairs(read_lines(path), path), subwords) if path else []
    if path and not rows:
        raise ValueError(f"{path} holds no sentence")
    return rows


def merge(rows: Iterable[Row]) -> list[Row]:
    """Each sentence once, with the texts of all its translations."""
    merged: dict[Sentence, Row] = {}
    for row in rows:
        first = merged.setdefault(row.key, row)
        if first is not row:
            merged[row.key] = first._replace(texts=first.texts + row.texts)
    return list(merged.values())


def cut(rows: list[Row], valid: list[Row], test: list[Row], seed: int) -> Splits:
    """The three parts of a corpus: what is not given is cut off from its `rows`. What is in the
    test is left out of the other two, and what is in the validation set out of the training. Raises
    ValueError if that leaves a part empty.
    """
    tested = {row.key for row in test}
    if valid and not (valid := [row for row in valid if row.key not in tested]):
        raise ValueError("all sentences to validate on are in the test")
    known = tested | {row.key for row in valid}
    train = [row for row in rows if row.key not in known]
    if len(train) < len(rows):
        says = "left out of the training: %d pairs whose sentence is in the validation or the test"
        logging.getLogger("helpers").warning(says, len(rows) - len(train))
    if not (valid and test):
        train, *others = split(train, seed, group=lambda row: row.key)
        for given, other in zip((valid, test), others, strict=True):
            (train if given else given).extend(other)
    if not train:
        raise ValueError("no sentence is left to train on")
    return Splits(train, merge(valid), merge(test))


def in_pieces(row: Row, vocab: Subwords, trg_vocab: Subwords) -> Row:
    """A row of text as one of pieces."""
    pieces = {"source": vocab.tokenize(row.source), "target": trg_vocab.tokenize(row.target)}
    return row._replace(**pieces)


def read_pairs(lines: Iterable[str], name: str) -> list[tuple[str, str]]:
    """Pairs of texts from lines `english<tab>french`, as the Anki files of manythings.org have
    them; whatever follows a second tab, such as an attribution, is ignored, and so are blank lines.
    A pair that repeats another is left out.

    Raises ValueError for a line without two texts; it says that the file is called `name`.
    """
    pairs: dict[tuple[str, str], None] = {}
    for i, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        source, _, rest = line.strip("\r\n").partition("\t")
        target = rest.partition("\t")[0]
        if not (source.strip() and target.strip()):
            raise ValueError(f"{name}: line {i} is not english<tab>french")
        pairs[source.strip(), target.strip()] = None
    return list(pairs)
