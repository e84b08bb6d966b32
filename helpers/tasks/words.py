"""The assignment as a task of the command line: the grammar's sentences, or a file's."""

from helpers import grammar
from helpers.data import TaskData, reversal_data, sentence_key, tokenize
from helpers.tasks.task import Corpus, read_lines, too_few


def load(
    seed: int, corpus: Corpus | None, max_length: int, per_length: int, unk_rate: float
) -> TaskData:
    """Sentences from our grammar or, if `corpus` names a text file, from its lines of 1 to
    `max_length` words. Raises OSError or ValueError if the file cannot be used.
    """
    if corpus is None:
        given = grammar.sentences(per_length, max_length, seed)
    elif corpus.valid or corpus.test:
        raise ValueError("the task words splits its corpus itself, by the words of a sentence")
    else:
        given = [tokens for line in read_lines(corpus.train) if (tokens := tokenize(line))]
    sentences = [tokens for tokens in given if len(tokens) <= max_length]
    left_out = len(given) - len(sentences)
    try:
        data = reversal_data(sentences, seed, unk_rate)
    except ValueError as error:
        alike = len(sentences) - len(set(map(sentence_key, sentences)))
        name = corpus.train if corpus else "the grammar"
        rest = name, len(given), left_out, max_length, alike
        raise too_few(error, *rest) from None
    return data._replace(left_out=left_out)
