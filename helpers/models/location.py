"""Any words, any length: a model that knows where it looked last, and sentences with two ends.

Shapes: B batch, S source length, T target length, H hidden, V vocabulary. A framed source has
S + 2 tokens. In a mask, True is a real token.
"""

import torch.nn.functional as F
from torch import Tensor

from helpers.data import BOS, EOS, PAD
from helpers.model import State
from helpers.models.recurrent import RecurrentSeq2Seq


class LocationSeq2Seq(RecurrentSeq2Seq):
    """A recurrent model with location-aware attention. The encoder reads a sentinel at each end of
    the source, <bos> and <eos>, so that there is a place to begin and a place to stop. It answers
    by pointing (see `search.copying`).
    """

    copies = any_length = True

    def __init__(self, src_size: int, trg_size: int, **sizes):
        """`sizes` as in `RecurrentSeq2Seq`, but for the attention, which is always the same."""
        super().__init__(src_size, trg_size, **sizes | {"attention": "location"})

    def start(self, src: Tensor, src_lens: Tensor) -> State:
        """The state before the first word: that of the decoder, the weights of no step yet (zeros),
        and what there is to look at: keys, values and mask of the framed source.
        """
        *state, keys, values, mask = super().start(*frame(src, src_lens))
        return *state, values.new_zeros(mask.shape), keys, values, mask

    def step(self, ids: Tensor, state: State) -> tuple[Tensor, Tensor, State]:
        """From the previous words `ids` (B,) to the features from which `output` predicts the next,
        the weights on the words of the source (B, S) and the new state. The weights on the
        sentinels, which make the sum 1, are in the state alone.
        """
        *state, previous, keys, values, mask = state
        located = self.decoder.attention.locate(keys, previous)
        features, state, weights = self.decoder.step(ids, tuple(state), located, values, mask)
        on_words = weights[:, 1:-1] * mask[:, 2:]  # a place is a word if another follows: <eos>
        return features, on_words, (*state, weights, keys, values, mask)


def frame(src: Tensor, src_lens: Tensor) -> tuple[Tensor, Tensor]:
    """The sources (B, S) between two sentinels, <bos> and <eos> (B, S + 2), and their lengths."""
    framed = F.pad(src, (1, 1), value=PAD)
    framed[:, 0] = BOS
    ends, lens = src_lens.to(src.device, non_blocking=True) + 1, src_lens + 2
    if lens.device != src.device:  # a GPU copies it later, without being waited for
        lens = lens.pin_memory()
    return framed.scatter(1, ends.unsqueeze(1), EOS), lens
