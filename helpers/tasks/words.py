"""The assignment as a task of the command line: the grammar's sentences, or a file's."""

from dataclasses import dataclass

from helpers import grammar
from helpers.data import TaskData, reversal_data, tokenize
from helpers.runs.fields import number
from helpers.tasks.task import LONGEST, PER_LENGTH, Reversal, read_lines


@dataclass(frozen=True)
class Words(Reversal):
    """Sentences are to be reversed, word by word."""

    name = "words"
    reads_corpus = True

    max_length: int = number(12, 3, 200, LONGEST)
    per_length: int = number(2400, 1, 100_000, PER_LENGTH)
    unk_rate: float = number(0.2, 0, 1, "share of training sentences masked with <unk>")

    def load(self, seed: int, corpus: str | None = None) -> TaskData:
        """Sentences from our grammar or, if `corpus` names a text file, from its lines of 1 to
        `max_length` words. Raises OSError or ValueError if the file cannot be used.
        """
        left_out = 0
        if corpus is None:
            sentences = grammar.sentences(self.per_length, self.max_length, seed)
        else:
            lines = [tokenize(line) for line in read_lines(corpus)]
            sentences = [tokens for tokens in lines if 1 <= len(tokens) <= self.max_length]
            left_out = sum(len(tokens) > self.max_length for tokens in lines)
        try:
            data = reversal_data(sentences, seed, self.unk_rate)
        except ValueError as error:
            raise ValueError(f"{corpus or 'the grammar'}: {error}") from None
        return data._replace(left_out=left_out)
