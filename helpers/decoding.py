"""From a trained model to words: greedy decoding in batches; unknown words are copied."""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from helpers.data import BOS, EOS, PAD, SPECIALS, Pair, Sentence, Vocab, pad
from helpers.metrics import exact_match


class Decoded(NamedTuple):
    """What the model wrote for one source."""

    ids: list[int]  # without <eos>
    weights: Tensor  # (steps, S): where each step looked, that of <eos> included


def max_steps(model: nn.Module, src_lens: Tensor) -> Tensor:
    """After how many steps a sentence, one of each length, is cut off if it has not ended."""
    return (2 * src_lens + 2).clamp(min=model.longest)


@torch.no_grad()
def greedy(model: nn.Module, src: Tensor, src_lens: Tensor) -> tuple[Tensor, Tensor]:
    """Writes the likeliest word at each step until <eos>, for all sources `src` (B, S) of a batch
    together, which have `src_lens` (B,) real tokens; what has ended leaves the batch. Returns the
    ids (B, T) and the attention weights (B, T, S), `PAD` and 0 after the end.
    """
    state = model.start(src, src_lens)
    ids, limits = torch.full_like(src_lens, BOS), max_steps(model, src_lens)
    rows = torch.arange(len(src), device=src.device)  # of the batch that have not ended
    steps = []
    while len(rows):
        logits, weights, state = model.next_word(ids, state)
        ids = logits.argmax(dim=-1)
        steps.append((rows, ids, weights))
        going = (ids != EOS) & (len(steps) < limits[rows])
        if not going.all():
            rows, ids = rows[going], ids[going]
            state = tuple(part[going] for part in state)
    all_ids = src.new_full((len(src), len(steps)), PAD)
    all_weights = steps[0][2].new_zeros(*all_ids.shape, src.size(1))
    for t, (rows, ids, weights) in enumerate(steps):
        all_ids[rows, t], all_weights[rows, t] = ids, weights
    return all_ids, all_weights


BATCH_SIZE = 250  # sources; 500 took longer where we tried
BATCH_TOKENS = 20_000  # at most, padding included, so that long sentences do not exhaust memory


def decode(
    model: nn.Module,
    sources: Sequence[list[int]],
    batch_size: int = BATCH_SIZE,
    search: Callable[..., tuple[Tensor, Tensor]] = greedy,
    batch_tokens: int = BATCH_TOKENS,
) -> list[Decoded]:
    """Decodes any number of sources, lists of ids, those of similar length together: at most
    `batch_size` of them, or `batch_tokens` tokens. The answers come in the order of the sources.
    Raises ValueError for a source without a token and a `batch_size` of less than 1.
    """
    answers: dict[int, Decoded] = {}
    for chosen, src, src_lens in in_batches(model, sources, batch_size, batch_tokens):
        all_ids, all_weights = (rows.cpu() for rows in search(model, src, src_lens))
        limits = max_steps(model, src_lens).tolist()
        for i, row, weights, n in zip(chosen, all_ids.tolist(), all_weights, limits, strict=True):
            steps = row.index(EOS) + 1 if EOS in row else n
            ids = [id_ for id_ in row[:steps] if id_ != EOS]
            answers[i] = Decoded(ids, weights[:steps, : len(sources[i])])
    return [answers[i] for i in range(len(sources))]


def in_batches(
    model: nn.Module, sources: Sequence[list[int]], batch_size: int, batch_tokens: int
) -> Iterator[tuple[list[int], Tensor, Tensor]]:
    """For `decode`: the numbers of B sources; these (B, S) and their lengths, on its device."""
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, not {batch_size}")
    if not all(sources):
        raise ValueError("cannot decode a source without a token")
    device = next(model.parameters()).device
    order = sorted(range(len(sources)), key=lambda i: len(sources[i]))
    while order:
        longest = len(sources[order[-1]])
        size = min(batch_size, max(1, batch_tokens // longest))
        chosen, order = order[-size:], order[:-size]
        lens = torch.tensor([len(sources[i]) for i in chosen])
        yield chosen, pad(sources[i] for i in chosen).to(device), lens.to(device)


def greedy_exact_match(
    model: nn.Module, pairs: Sequence[Pair], batch_size: int = BATCH_SIZE
) -> float:
    """The share of pairs, at least one, whose target the model writes without a fault."""
    if not len(pairs):
        raise ValueError("no pairs to compare")
    sources, targets = zip(*pairs, strict=True)
    return exact_match([answer.ids for answer in decode(model, sources, batch_size)], targets)


def spell(tokens: Sentence, src: list[int], answer: Decoded, vocab: Vocab) -> list[str]:
    """The words of an answer in the spelling of its source `tokens`, whose ids are `src` (none if
    source and answer have different vocabularies). A word takes that of the source token of its id
    with the strongest weight, <unk> so that of an unknown word (Jean et al. 2015, arXiv:1412.2007);
    one that the source does not have is written as in the vocabulary, a special symbol as the token
    with the strongest weight. Without attention (weights 0) only what is unambiguous is copied.
    """
    words = []
    for id_, weights in zip(answer.ids, answer.weights.tolist(), strict=False):
        places = [i for i, src_id in enumerate(src) if src_id == id_]
        if not places and vocab.words[id_] in SPECIALS:
            places = list(range(len(tokens)))
        if len(places) > 1 and not any(weights):  # without attention nothing tells which
            places = []
        words.append(tokens[max(places, key=weights.__getitem__)] if places else vocab.words[id_])
    return words
