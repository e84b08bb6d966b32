"""The assignment as a task of the command line: the grammar's sentences, or a file's."""

from dataclasses import dataclass

from helpers import grammar
from helpers.data import TaskData, reversal_data, sentence_key, tokenize
from helpers.runs.fields import number
from helpers.tasks.task import LONGEST, PER_LENGTH, Corpus, Reversal, read_lines, too_few


@dataclass(frozen=True)
class Words(Reversal):
    """Sentences are to be reversed, word by word."""

    name = "words"
    reads_corpus = True

    max_length: int = number(12, 3, 200, LONGEST)
    per_length: int = number(2400, 1, 100_000, PER_LENGTH)
    unk_rate: float = number(0.2, 0, 1, "share of training sentences masked with <unk>")

    def load(self, seed: int, corpus: str | Corpus | None = None) -> TaskData:
        """Sentences from our grammar or, if `corpus` names a text file, from its lines of 1 to
        `max_length` words. Raises OSError or ValueError if the file cannot be used.
        """
        corpus = Corpus.of(corpus)
        if corpus is None:
            given = grammar.sentences(self.per_length, self.max_length, seed)
        elif corpus.valid or corpus.test:
            raise ValueError("the task words splits its corpus itself, by the words of a sentence")
        else:
            given = [tokens for line in read_lines(corpus.train) if (tokens := tokenize(line))]
        sentences = [tokens for tokens in given if len(tokens) <= self.max_length]
        left_out = len(given) - len(sentences)
        try:
            data = reversal_data(sentences, seed, self.unk_rate)
        except ValueError as error:
            alike = len(sentences) - len(set(map(sentence_key, sentences)))
            name = corpus.train if corpus else "the grammar"
            rest = name, len(given), left_out, self.max_length, alike
            raise too_few(error, *rest) from None
        return data._replace(left_out=left_out)
