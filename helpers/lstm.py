"""The LSTM encoder-decoder without attention (Sutskever, Vinyals and Le 2014, arXiv:1409.3215).

Shapes: B batch, S source length, T target length, H hidden, V vocabulary.
"""

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence

from helpers.model import State


class LSTMSeq2Seq(nn.Module):
    """All that the decoder learns of the source is one pair of vectors, however long it is."""

    def __init__(self, src_size: int, trg_size: int, emb_size: int, hidden_size: int):
        super().__init__()
        self.src_embedding = nn.Embedding(src_size, emb_size)
        self.trg_embedding = nn.Embedding(trg_size, emb_size)
        self.encoder = nn.LSTM(emb_size, hidden_size, batch_first=True, bidirectional=True)
        self.bridge = nn.Linear(2 * hidden_size, hidden_size)  # from two directions to one
        self.decoder = nn.LSTM(emb_size, hidden_size, batch_first=True)
        self.output = nn.Linear(hidden_size, trg_size)

    def start(self, src: Tensor, src_lens: Tensor) -> State:
        """Reads the source `src` (B, S) of `src_lens` (B,) real tokens. The state before the first
        word: hidden state and cell of the decoder (B, H), and S zeros a row, for the weights.
        """
        lens = src_lens.cpu()  # torch wants these lengths on the CPU
        emb = self.src_embedding(src)
        packed = pack_padded_sequence(emb, lens, batch_first=True, enforce_sorted=False)
        _, final = self.encoder(packed)  # hidden and cell, each (2, B, H)
        hidden, cell = (self.bridge(torch.cat([*both], dim=-1)) for both in final)
        return torch.tanh(hidden), cell, emb.new_zeros(src.shape)

    def forward(self, src: Tensor, src_lens: Tensor, trg_in: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the logits (B, T, V) of the next words, each from the true previous words, and
        weights (B, T, S) that are all 0: this model looks nowhere.
        """
        logits, weights, _ = self.read(trg_in, self.start(src, src_lens))
        return logits, weights

    def next_word(self, ids: Tensor, state: State) -> tuple[Tensor, Tensor, State]:
        """From the previous words `ids` (B,) to the logits (B, V) of the next, weights of 0 (B, S)
        and the new state.
        """
        logits, weights, state = self.read(ids.unsqueeze(1), state)
        return logits[:, 0], weights[:, 0], state

    def read(self, trg_in: Tensor, state: State) -> tuple[Tensor, Tensor, State]:
        """Reads the words `trg_in` (B, T), one after the other, from `state` on."""
        hidden, cell, nowhere = state
        emb = self.trg_embedding(trg_in)
        outputs, (hidden, cell) = self.decoder(emb, (hidden.unsqueeze(0), cell.unsqueeze(0)))
        weights = nowhere.unsqueeze(1).expand(-1, trg_in.size(1), -1)
        return self.output(outputs), weights, (hidden[0], cell[0], nowhere)
