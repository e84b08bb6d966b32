"""Four tasks, each by its name: their settings, where their data come from, and what an answer
should be. What a task does stands in a module of its own, which is imported when it is done.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from helpers.runs.fields import number
from helpers.tasks.task import Corpus, Examples, Reversal, Task

if TYPE_CHECKING:
    from helpers.data import Sentence, TaskData, Vocab

LONGEST = "tokens in the longest source (translate: or target)"
PER_LENGTH = (
    "generated sources for each length (words: and as many shuffled; translate: on average)"
)
FOR_A_CORPUS = {  # of pairs; measured on captions, see section 4.21
    "subwords": 4000,
    "max_length": 100,
    "emb_size": 256,
    "hidden_size": 256,
    "attn_size": 256,
    "output": "tied",
    "dropout": 0.3,
    "lr": 2e-3,
    "warmup": 300,
    "label_smoothing": 0.1,
    "precision": "float32",
    "batch_tokens": 2000,
    "epochs": 10,
}


@dataclass(frozen=True)
class Words(Reversal):
    """Sentences are to be reversed, word by word."""

    name = "words"
    reads_corpus = True

    max_length: int = number(12, 3, 200, LONGEST)
    per_length: int = number(2400, 1, 100_000, PER_LENGTH)
    unk_rate: float = number(0.2, 0, 1, "share of training sentences masked with <unk>")

    def load(self, seed: int, corpus: str | Corpus | None = None) -> "TaskData":
        from helpers.tasks import words

        return words.load(seed, Corpus.of(corpus), **vars(self))


@dataclass(frozen=True)
class Integers(Reversal):
    """Random integers are to be reversed. Nothing but order can be learned."""

    name = "integers"

    max_length: int = number(12, 3, 200, LONGEST)
    per_length: int = number(2400, 1, 100_000, PER_LENGTH)
    vocab_size: int = number(53, 4, 100_000, "the integers run from 3 to one less than this")

    def load(self, seed: int, corpus: str | Corpus | None = None) -> "TaskData":
        from helpers.tasks import integers

        self.refuse(corpus)
        return integers.load(seed, **vars(self))


@dataclass(frozen=True)
class Patterns(Task):
    """Patterns of digits are to be continued."""

    name = "patterns"

    max_length: int = number(12, 3, 200, LONGEST)
    per_length: int = number(2400, 1, 100_000, PER_LENGTH)

    def load(self, seed: int, corpus: str | Corpus | None = None) -> "TaskData":
        from helpers.tasks import patterns

        self.refuse(corpus)
        return patterns.load(seed, **vars(self))

    def answer(self, tokens: "Sentence") -> "Sentence":
        from helpers.tasks import patterns

        return patterns.continuation(tokens)


@dataclass(frozen=True)
class Translation(Task):
    """English sentences are to be translated to French."""

    name = "translate"
    reads_corpus = True

    max_length: int = number(12, 3, 200, LONGEST)
    per_length: int = number(2400, 1, 100_000, PER_LENGTH)
    subwords: int = number(0, 0, 100_000, "pieces of words a side, at most; 0: whole words")

    @classmethod
    def recipe(cls) -> dict:
        return dict(FOR_A_CORPUS)

    def load(self, seed: int, corpus: str | Corpus | None = None) -> "TaskData":
        from helpers.tasks import translation

        return translation.load(seed, Corpus.of(corpus), **vars(self))

    def tokenize(self, line: str, vocab: "Vocab | None" = None) -> "Sentence":
        from helpers.tasks import translation

        return translation.to_tokens(line, vocab)

    def right_lines(self, lines: Sequence[str], texts: Sequence[tuple[str, ...]]) -> list[bool]:
        """As in `Task`, but whatever kinds of space and apostrophe there are (see `plain`)."""
        from helpers.tasks.tokens import plain

        options = [tuple(map(plain, row)) for row in texts]
        return super().right_lines(list(map(plain, lines)), options)

    def join(self, tokens: Iterable[str], vocab: "Vocab | None" = None) -> str:
        from helpers.tasks import translation

        return translation.to_line(tokens, vocab)

    def examples(self, path: str | Path, vocabs: Sequence["Vocab"] = ()) -> Examples:
        from helpers.tasks import translation

        return translation.examples(path, vocabs, self.subwords)


TASKS = {task.name: task for task in (Words, Integers, Patterns, Translation)}
