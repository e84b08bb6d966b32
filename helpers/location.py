"""Any words, any length: a model that knows where it looked last, and sentences with two ends.

Shapes: B batch, S source length, T target length, H hidden, V vocabulary. A framed
source has S + 2 tokens. In a mask, True is a real token.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from helpers.data import BOS, EOS, PAD
from helpers.model import Decoder, Encoder, LocationAttention, State


class LocationSeq2Seq(nn.Module):
    """The encoder and decoder of `model.py` with location-aware attention. The encoder reads a
    sentinel at each end of the source, <bos> and <eos>, so that there is a place to begin and a
    place to stop. In training, `dropout` is the share of the numbers of embeddings, annotations and
    queries that become 0.
    """

    def __init__(
        self,
        src_size: int,
        trg_size: int,
        emb_size: int,
        hidden_size: int,
        attn_size: int,
        dropout: float,
    ):
        super().__init__()
        attention = LocationAttention(hidden_size, 2 * hidden_size, attn_size)
        self.encoder = Encoder(src_size, emb_size, hidden_size)
        self.decoder = Decoder(trg_size, emb_size, hidden_size, 2 * hidden_size, attention)
        self.dropout = nn.Dropout(dropout)
        for half in (self.encoder, self.decoder):
            half.embedding = nn.Sequential(half.embedding, self.dropout)
        attention.project_query = nn.Sequential(self.dropout, attention.project_query)

    def start(self, src: Tensor, src_lens: Tensor) -> State:
        """The state before the first word: that of the decoder (B, H), the weights of no step yet
        (zeros), and what there is to look at: keys, annotations and mask of the framed source.
        """
        framed, lens = frame(src, src_lens)
        annotations, state = self.encoder(framed, lens)
        annotations = self.dropout(annotations)  # (B, S + 2, 2H)
        mask = torch.arange(framed.size(1), device=src.device) < lens.unsqueeze(1)
        keys = self.decoder.attention.project_keys(annotations)
        return state, annotations.new_zeros(mask.shape), keys, annotations, mask

    def next_word(self, ids: Tensor, state: State) -> tuple[Tensor, Tensor, State]:
        """From the previous words `ids` (B,) to the logits (B, V) of the next, the weights on the
        words of the source (B, S) and the new state. The weights on the sentinels, which make the
        sum 1, are in the state alone.
        """
        features, weights, state = self.step(ids, state)
        return self.decoder.output(features), weights, state

    def step(self, ids: Tensor, state: State) -> tuple[Tensor, Tensor, State]:
        """As `next_word`, but with the features (B, 3H) from which `output` predicts the word."""
        hidden, previous, keys, annotations, mask = state
        near = self.decoder.attention.locate(keys, previous)
        emb = self.decoder.embedding(ids)
        features, hidden, weights = self.decoder.step(emb, hidden, near, annotations, mask)
        on_words = weights[:, 1:-1] * mask[:, 2:]  # a place is a word if another follows: <eos>
        return features, on_words, (hidden, weights, keys, annotations, mask)

    def forward(self, src: Tensor, src_lens: Tensor, trg_in: Tensor) -> tuple[Tensor, Tensor]:
        """Teacher forcing: returns the logits (B, T, V) of the next words, each from the true
        previous words, and the weights (B, T, S).
        """
        state, steps = self.start(src, src_lens), []
        for ids in trg_in.unbind(dim=1):
            *made, state = self.step(ids, state)
            steps.append(made)
        features, weights = (torch.stack(part, dim=1) for part in zip(*steps, strict=True))
        return self.decoder.output(features), weights


def frame(src: Tensor, src_lens: Tensor) -> tuple[Tensor, Tensor]:
    """The sources (B, S) between two sentinels, <bos> and <eos> (B, S + 2), and their lengths."""
    framed = F.pad(src, (1, 1), value=PAD)
    framed[:, 0] = BOS
    return framed.scatter(1, (src_lens + 1).unsqueeze(1), EOS), src_lens + 2
