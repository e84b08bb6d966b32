"""Answering by pointing: for a model that knows where it looked last, at any length."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from helpers.data import BOS
from helpers.decoding import BATCH_SIZE, BATCH_TOKENS, in_batches, max_steps
from helpers.models.location import frame


@torch.no_grad()
def copy_search(model: nn.Module, src: Tensor, src_lens: Tensor) -> Tensor:
    """Writes by pointing: at each step the source word with the strongest weight, until that is the
    sentinel before the first word.

    What is fed back is the word pointed at, and a weight of 1 on its place instead of the weights:
    small errors of position cannot add up, however long the source is. A search that points at
    the other sentinel is lost and ends, too, and so does one of `max_steps`.

    `src` (B, S) holds `src_lens` (B,) real tokens a row, of the vocabulary that source and target
    share. Returns the places (B, T), counted from 1; 0 after the end.
    """
    framed, _ = frame(src, src_lens)
    state, limits = model.start(src, src_lens), max_steps(model, src_lens)
    ids, steps = torch.full_like(src_lens, BOS), 0
    # made at once: a small tensor kept from each step would scatter over the memory of the large
    all_places = src.new_zeros(len(src), int(limits.max()))
    done = torch.zeros_like(src_lens, dtype=torch.bool)
    while not done.all():
        _, _, (*hidden, weights, keys, values, mask) = model.step(ids, state)
        places = weights.argmax(dim=-1)
        weights = torch.zeros_like(weights).scatter(1, places.unsqueeze(1), 1.0)
        state = *hidden, weights, keys, values, mask
        ids = framed.gather(1, places.unsqueeze(1)).squeeze(1)
        done = done | (places == 0) | (places > src_lens)  # the other sentinel: it is lost
        all_places[:, steps] = places.masked_fill(done, 0)
        steps += 1
        done = done | (steps >= limits)
    return all_places[:, :steps]


def decode_by_copying(model: nn.Module, sources: Sequence[list[int]]) -> list[list[int]]:
    """The places (see `copy_search`) that the model points at for any number of sources, lists of
    ids. Raises ValueError for a source without a token.
    """
    answers: dict[int, list[int]] = {}
    for chosen, src, src_lens in in_batches(model, sources, BATCH_SIZE, BATCH_TOKENS):
        for i, row in zip(chosen, copy_search(model, src, src_lens).tolist(), strict=True):
            answers[i] = [place for place in row if place]
    return [answers[i] for i in range(len(sources))]
