"""What any model answers: it writes, greedily or with a beam, or it copies what it points at."""

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import torch
from torch import nn

from helpers.data import Sentence, TaskData, Vocab
from helpers.decoding import Decoded, decode, max_steps, spell
from helpers.metrics import matches
from helpers.search.beam import decode_with_beam
from helpers.search.copying import decode_by_copying
from helpers.tasks.subwords import Subwords

BLOCK_WORDS = 500_000  # read at a time, and one sentence more


class Answer(NamedTuple):
    """What a model answers to one sentence."""

    words: list[str]
    ended: bool = True  # False if it was cut off


def answer_ids(model: nn.Module, sources: Sequence[list[int]]) -> list[list[int]]:
    """The ids that a model answers each source with, greedily if it writes. Raises ValueError for a
    source without a token.
    """
    if not model.copies:
        return [answer.ids for answer in decode(model, sources)]
    both = zip(sources, decode_by_copying(model, sources), strict=True)
    return [[src[place - 1] for place in places] for src, places in both]


def predict(
    model: nn.Module,
    vocab: Vocab,
    trg_vocab: Vocab,
    sentences: Iterable[Sentence],
    chunk: int = 500,
    beam: int = 1,
) -> Iterator[Answer]:
    """What the model answers to each sentence of tokens; at most `chunk` sentences are read at a
    time. That is nothing for an empty sentence, and for one with words that the vocabulary does not
    know, if there is no "<unk>" to stand for them.

    Raises ValueError for a `chunk` of less than 1, and for a `beam` of another width than 1 with a
    model that copies.
    """
    if model.copies and beam != 1:
        raise ValueError(f"a model that copies has no use for a beam: it must be 1, not {beam}")
    if chunk < 1:
        raise ValueError(f"chunk must be at least 1, not {chunk}")
    for block in blocks(sentences, chunk):
        sources = [vocab.encode(tokens) if vocab.knows(tokens) else [] for tokens in block]
        given = [src for src in sources if src]
        tokens_of = [tokens for tokens, src in zip(block, sources, strict=True) if src]
        if model.copies:
            limits = max_steps(model, torch.tensor([len(src) for src in given])).tolist()
            trios = zip(tokens_of, decode_by_copying(model, given), limits, strict=True)
            written = (
                Answer([tokens[i - 1] for i in row], len(row) < n) for tokens, row, n in trios
            )
        else:
            same = vocab.words == trg_vocab.words
            answers = decode_with_beam(model, given, beam)
            trios = zip(tokens_of, given if same else [[]] * len(given), answers, strict=True)
            written = (Answer(spelled(*trio, vocab, trg_vocab), ended(trio[-1])) for trio in trios)
        for src in sources:
            yield next(written) if src else Answer([])


def blocks(sentences: Iterable[Sentence], size: int) -> Iterator[list[Sentence]]:
    """The sentences, at most `size` at a time, and fewer if they are long."""
    block, words = [], 0
    for tokens in sentences:
        block.append(tokens)
        words += len(tokens)
        if len(block) == size or words > BLOCK_WORDS:
            yield block
            block, words = [], 0
    if block:
        yield block


def spelled(
    tokens: Sentence, src: list[int], answer: Decoded, vocab: Vocab, trg_vocab: Vocab
) -> list[str]:
    """As `spell`; what is rare is copied, too, if both vocabularies are of pieces."""
    words = spell(tokens, src, answer, trg_vocab)
    if not (isinstance(vocab, Subwords) and isinstance(trg_vocab, Subwords)):
        return words
    from helpers.search.spelling import spell_rare  # here, since nobody else needs it

    return spell_rare(tokens, words, answer.weights, vocab, trg_vocab)


def ended(answer: Decoded) -> bool:
    """Whether the model has ended it by itself: then there are weights for <eos>, too."""
    return len(answer.weights) > len(answer.ids)


def right_answers(
    model: nn.Module,
    data: TaskData,
    sentences: Sequence[Sentence],
    references: Sequence[Sentence],
) -> list[bool]:
    """Whether what the model answers to each sentence is its reference, word for word: what exact
    match means wherever a model is measured.
    """
    answers = predict(model, data.vocab, data.trg_vocab, sentences)
    return matches([answer.words for answer in answers], references)
