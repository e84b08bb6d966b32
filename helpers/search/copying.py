"""Answering by pointing: for a model that knows where it looked last, at any length."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from tqdm import tqdm

from helpers.data import BOS
from helpers.decoding import BATCH_SIZE, BATCH_TOKENS, in_batches, max_steps
from helpers.models.location import frame

SIDE = 32  # places on either side of the last one, among which a step looks for the next
DELAY = 5  # seconds after which a search shows where it is


@torch.no_grad()
def copy_search(model: nn.Module, src: Tensor, src_lens: Tensor, side: int = SIDE) -> Tensor:
    """Writes by pointing: at each step, of the places that it looks at, the word with the strongest
    weight, until that is the sentinel before the first word.

    What is fed back is the word pointed at, and a weight of 1 on its place instead of the weights:
    small errors of position cannot add up, however long the source is. A search that points at
    the other sentinel is lost and ends, too, and so does one of `max_steps`.

    The first step looks at the whole source, each other one only at `side` places before and behind
    the last place: so the time grows with the length, not with its square. One that points at the
    edge of these, with more beyond, looks at the whole source after all.

    `src` (B, S) holds `src_lens` (B,) real tokens a row, of the vocabulary that source and target
    share. Returns the places (B, T), counted from 1; 0 after the end.
    """
    src_lens = src_lens.to(src.device)
    framed, framed_lens = frame(src, src_lens)
    *hidden, nowhere, keys, values, mask = model.start(src, src_lens)
    size, rows = framed.size(1), torch.arange(len(src), device=src.device).unsqueeze(1)

    def look(ids: Tensor, hidden: list, last: Tensor, first: Tensor, width: int):
        """Of `width` places from `first` (B, 1) on that with the strongest weight (B, 1), after a
        weight of 1 on the `last` (B, 1); and the new hidden state.
        """
        seen = first + torch.arange(width, device=src.device)  # (B, width)
        before, whole = (seen == last).to(nowhere.dtype), (keys, values, mask)
        parts = whole if width == size else (part[rows, seen] for part in whole)
        _, _, (*hidden, weights, _, _, _) = model.step(ids, (*hidden, before, *parts))
        return seen.gather(1, weights.argmax(dim=1, keepdim=True)), hidden

    start, lens = torch.zeros_like(rows), framed_lens.unsqueeze(1)
    limits, done = max_steps(model, src_lens).unsqueeze(1), torch.zeros_like(rows, dtype=torch.bool)
    ids, last, steps, width = torch.full_like(src_lens, BOS), start - 1, 0, size
    # made at once: a small tensor kept from each step would scatter over the memory of the large
    all_places = src.new_zeros(len(src), int(limits.max()))
    with tqdm(desc="words", total=size - 2, ncols=70, delay=DELAY, leave=False) as bar:
        while not done.all():
            first = (last - side).clamp(0, size - width)
            places, after = look(ids, hidden, last, first, width)
            end = first + width
            edge = (places == first) & (first > 0) | (places == end - 1) & (end < lens)
            if (edge := edge & ~done).any():
                whole, after_whole = look(ids, hidden, last, start, size)
                places = torch.where(edge, whole, places)
                after = [torch.where(edge, *both) for both in zip(after_whole, after, strict=True)]
            last, hidden, width = places, after, min(2 * side + 1, size)
            ids = framed.gather(1, places).squeeze(1)
            done = done | (places == 0) | (places >= lens - 1)  # the other sentinel: it is lost
            all_places[:, steps] = places.masked_fill(done, 0).squeeze(1)
            steps += 1
            done = done | (steps >= limits)
            bar.update()
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
