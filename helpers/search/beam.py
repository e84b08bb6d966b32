"""Beam search: the best of several beginnings, instead of the likeliest word at each step."""

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor, nn

from helpers.data import BOS, EOS, PAD
from helpers.decoding import BATCH_SIZE, BATCH_TOKENS, Decoded, decode, greedy, max_steps


def decode_with_beam(
    model: nn.Module,
    sources: Sequence[list[int]],
    width: int,
    penalty: float = 1.0,
    batch_size: int = BATCH_SIZE,
) -> list[Decoded]:
    """As `decode`, with a beam search; a `width` of 1 is greedy. Raises ValueError for a width of
    less than 1.
    """
    if width < 1:
        raise ValueError(f"a beam has a width of at least 1, not {width}")
    search = greedy if width == 1 else partial(beam_search, width=width, penalty=penalty)
    return decode(model, sources, batch_size, search, BATCH_TOKENS // width)


@torch.no_grad()
def beam_search(
    model: nn.Module, src: Tensor, src_lens: Tensor, width: int, penalty: float = 1.0
) -> tuple[Tensor, Tensor]:
    """Keeps the `width` best beginnings of each sentence at every step; answers as `greedy` does.

    An answer of n tokens, <eos> included, is rated by its log probability divided by
    ((5 + n) / 6) ** `penalty` (Wu et al. 2016, arXiv:1609.08144, equation 14).
    """
    limits = max_steps(model, src_lens).repeat_interleave(width)
    state = tuple(rows.repeat_interleave(width, dim=0) for rows in model.start(src, src_lens))
    firsts = width * torch.arange(len(src), device=src.device).unsqueeze(1)
    ids = torch.full_like(limits, BOS)  # (B * K,), K for the width; so are the rows of all others
    all_ids = ids.new_zeros(len(ids), 0)
    dtype = next(model.parameters()).dtype
    all_weights = torch.zeros(len(ids), 0, src.size(1), dtype=dtype, device=src.device)
    lengths, done = torch.zeros_like(ids), torch.zeros_like(ids, dtype=torch.bool)
    scores = torch.full((len(src), width), -torch.inf, device=src.device)
    scores[:, 0] = 0.0  # all beginnings are the same at first: only one of them counts
    scores = scores.flatten()
    while not done.all():
        logits, weights, state = model.next_word(ids, state)
        log_probs = logits.log_softmax(dim=-1).masked_fill(done.unsqueeze(1), -torch.inf)
        log_probs[:, PAD].masked_fill_(done, 0.0)  # what is done goes on with padding, at no cost
        totals, lengths = scores.unsqueeze(1) + log_probs, lengths + ~done
        ratings = totals / ((5 + lengths.unsqueeze(1)) / 6) ** penalty  # (B * K, V)
        best = ratings.view(len(src), -1).topk(width).indices  # (B, K)
        chosen, ids = (firsts + best // logits.size(1)).flatten(), (best % logits.size(1)).flatten()
        scores = totals[chosen, ids]
        all_ids = torch.cat([all_ids[chosen], ids.unsqueeze(1)], dim=1)
        weights = weights.masked_fill(done.unsqueeze(1), 0.0)
        all_weights = torch.cat([all_weights, weights.unsqueeze(1)], dim=1)[chosen]
        state = tuple(rows[chosen] for rows in state)
        lengths = lengths[chosen]
        done = done[chosen] | (ids == EOS) | (all_ids.size(1) >= limits)
    return all_ids[::width], all_weights[::width]
