"""What all tasks have in common."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from helpers.runs.fields import Group

if TYPE_CHECKING:
    from helpers.data import Sentence, Splits, TaskData, Vocab


class Examples(NamedTuple):
    """Sentences to test on."""

    sentences: list[Sentence]  # the sources, as tokens
    references: list[Sentence]  # what they should become; the first, if there are several
    texts: list[tuple[str, ...]]  # as texts, all of them


class Corpus(NamedTuple):
    """Files of the user's: without one to validate or test on, `train` is split."""

    train: str
    valid: str | None = None
    test: str | None = None

    @classmethod
    def of(cls, corpus: str | Path | Corpus | None) -> Corpus | None:
        """The same, also for the name of a single file."""
        return cls(str(corpus)) if isinstance(corpus, (str, Path)) else corpus


class Task(Group):
    """A task, with its settings as fields. Each has a `name` and makes its data (`load`)."""

    name: str
    reads_corpus = False  # whether it can learn from a file of the user's
    mirrors = False  # whether the target is the source in another order, of the same vocabulary

    @classmethod
    def recipe(cls) -> dict:
        """Defaults for a corpus, of settings of any group."""
        return {}

    def refuse(self, corpus: str | Corpus | None) -> None:
        """Raises ValueError if there is a corpus."""
        if corpus is not None:
            raise ValueError(f"the task {self.name} reads no corpus")

    def load(self, seed: int, corpus: str | Corpus | None = None) -> TaskData:
        """The data, generated or, where there is a `corpus`, from that file, or those files."""
        raise NotImplementedError

    def tokenize(self, line: str, vocab: Vocab | None = None) -> Sentence:
        """The tokens of a line, as the `vocab` of the sources has them."""
        from helpers.data import tokenize

        return tokenize(line)

    def right_lines(self, lines: Sequence[str], texts: Sequence[tuple[str, ...]]) -> list[bool]:
        """Whether each line is one of the texts that it might be."""
        return [line in options for line, options in zip(lines, texts, strict=True)]

    def join(self, tokens: Iterable[str], vocab: Vocab | None = None) -> str:
        """An answer as a line; `vocab` is that of the targets."""
        return " ".join(tokens)

    def answer(self, tokens: Sentence) -> Sentence:
        """What the tokens should become, by rule."""
        raise NotImplementedError

    def examples(self, path: str | Path, vocabs: Sequence[Vocab] = ()) -> Examples:
        """The sentences of a file, one a line, as the `vocabs` of source and target have them.
        Raises OSError, or ValueError if there is none.
        """
        sentences = [self.tokenize(line) for line in read_lines(path) if line.strip()]
        if not sentences:
            raise ValueError(f"{path} holds no sentence")
        references = [self.answer(tokens) for tokens in sentences]
        return Examples(sentences, references, [(self.join(tokens),) for tokens in references])


class Reversal(Task):
    """A task whose answers are the source in reversed order."""

    mirrors = True

    def answer(self, tokens: Sentence) -> Sentence:
        return tokens[::-1]


def read_lines(path: str | Path) -> list[str]:
    """The lines of a UTF-8 text file, which end with \\n or, if there is none of these, with \\r.
    Raises OSError, or ValueError if it is not UTF-8.
    """
    try:
        with open(path, encoding="utf-8-sig", newline="\n") as file:
            lines = file.readlines()
            return lines if lines[1:] else "".join(lines).rstrip("\r\n").split("\r")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8 text (byte {error.start})") from None


def too_few(
    error: ValueError, name: str, lines: int, left_out: int, max_length: int, alike: int
) -> ValueError:
    """What to raise where the file `name` leaves too little to split: with how many sentences (or
    pairs) it has, how many of these are too long, and how many were there before.
    """
    counts = f"{lines} sentences read, {left_out} of more than {max_length} tokens (--max-length)"
    return ValueError(f"{name}: {counts}, {alike} that repeat another: {error}")


def encoded(sentences: Splits, references: Splits, vocab: Vocab, trg_vocab: Vocab) -> TaskData:
    """The data of turning sentences into references, with its pairs of ids."""
    from helpers.data import Splits, TaskData

    pairs = Splits(
        *(
            [(vocab.encode(src), trg_vocab.encode(trg)) for src, trg in zip(*parts, strict=True)]
            for parts in zip(sentences, references, strict=True)
        )
    )
    return TaskData(sentences, references, vocab, trg_vocab, pairs)
