"""The GRU encoder-decoder with additive attention (Bahdanau, Cho and Bengio 2015).

Shapes: B batch, S source length, T target length, E embedding, H hidden, A attention, V vocabulary.
The encoder is bidirectional, so that its outputs have 2H features. In a mask, True is a real token.
The appendix named in brackets is that of the paper (arXiv:1409.0473).
"""

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

State = tuple[Tensor, ...]


class Encoder(nn.Module):
    """A bidirectional GRU: one hidden state for each source token (appendix A.2.1)."""

    def __init__(self, vocab_size: int, emb_size: int, hidden_size: int):
        super().__init__()
        self.embedding = nn.Embedding(vocab_size, emb_size)
        self.gru = nn.GRU(emb_size, hidden_size, batch_first=True, bidirectional=True)
        self.bridge = nn.Linear(2 * hidden_size, hidden_size)

    def forward(self, src: Tensor, src_lens: Tensor) -> tuple[Tensor, Tensor]:
        """Reads `src` (B, S) of `src_lens` (B,) real tokens; returns the hidden state at every
        token (B, S, 2H), zero on padding, and the decoder's first state (B, H). Raises RuntimeError
        for a source without a token.
        """
        emb = self.embedding(src)  # (B, S, E)
        lens, length = src_lens.cpu(), src.size(1)  # torch wants these lengths on the CPU
        packed = pack_padded_sequence(emb, lens, batch_first=True, enforce_sorted=False)
        packed, final = self.gru(packed)  # final: (2, B, H), one for each direction
        enc_outputs, _ = pad_packed_sequence(packed, batch_first=True, total_length=length)
        state = torch.tanh(self.bridge(torch.cat([final[0], final[1]], dim=-1)))  # (B, H)
        return enc_outputs, state


class AdditiveAttention(nn.Module):
    """Scores a query against every key by a small network: v . tanh(W q + U k) (appendix A.1.2)."""

    def __init__(self, query_size: int, key_size: int, attn_size: int):
        super().__init__()
        self.project_query = nn.Linear(query_size, attn_size, bias=False)  # W
        self.project_keys = nn.Linear(key_size, attn_size, bias=False)  # U
        self.score = nn.Linear(attn_size, 1, bias=False)  # v

    def forward(
        self, query: Tensor, keys: Tensor, values: Tensor, mask: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Looks up `query` (B, H) among `keys` (B, S, A), which `project_keys` made of `values`
        (B, S, 2H), where `mask` (B, S) is True: at one place of each row at least.

        Returns the context (B, 2H), which is the weighted sum of the values, and the weights
        (B, S), which are exactly 0 where `mask` is False and sum to 1.
        """
        hidden = torch.tanh(self.project_query(query).unsqueeze(1) + keys)  # (B, S, A)
        energy = self.score(hidden).squeeze(-1)  # (B, S)
        return look_up(energy, values, mask)


def look_up(energy: Tensor, values: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """From scores (B, S) to weights (B, S), by a softmax over the real tokens, and to the context
    (B, 2H), the sum of the values (B, S, 2H) with these weights.
    """
    weights = torch.softmax(energy.masked_fill(~mask, -torch.inf), dim=-1)
    return torch.bmm(weights.unsqueeze(1), values).squeeze(1), weights


class Decoder(nn.Module):
    """A GRU that looks at the source before every word that it writes (appendix A.2.2).

    Any attention serves that has `project_keys` and the signature of `AdditiveAttention.forward`.
    """

    def __init__(
        self, vocab_size: int, emb_size: int, hidden_size: int, enc_size: int, attention: nn.Module
    ):
        super().__init__()
        self.attention = attention
        self.embedding = nn.Embedding(vocab_size, emb_size)
        self.cell = nn.GRUCell(emb_size + enc_size, hidden_size)
        self.output = nn.Linear(hidden_size + enc_size, vocab_size)

    def step(
        self, emb: Tensor, state: Tensor, keys: Tensor, values: Tensor, mask: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """One step: from the previous word `emb` (B, E) and `state` (B, H) to what predicts the
        next word. Returns features (B, 3H) for `output`, the new state and the weights (B, S).
        """
        context, weights = self.attention(state, keys, values, mask)
        state = self.cell(torch.cat([emb, context], dim=-1), state)
        return torch.cat([state, context], dim=-1), state, weights

    def forward(
        self, trg_in: Tensor, state: Tensor, enc_outputs: Tensor, mask: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Teacher forcing: every step reads the true previous word, from `trg_in` (B, T).

        Returns the logits (B, T, V) of the next words and the attention weights (B, T, S).
        """
        keys = self.attention.project_keys(enc_outputs)  # (B, S, A), once for all steps
        all_features, all_weights = [], []
        for emb in self.embedding(trg_in).unbind(dim=1):  # (B, E)
            features, state, weights = self.step(emb, state, keys, enc_outputs, mask)
            all_features.append(features)
            all_weights.append(weights)
        logits = self.output(torch.stack(all_features, dim=1))
        return logits, torch.stack(all_weights, dim=1)


class Seq2Seq(nn.Module):
    """Encoder and decoder together."""

    copies = any_length = False  # it writes words, and none too many; models/ has others
    longest = 0  # steps that the longest target of its training takes, as far as is known

    def __init__(self, encoder: Encoder, decoder: Decoder):
        super().__init__()
        self.encoder, self.decoder = encoder, decoder

    def encode(self, src: Tensor, src_lens: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Returns encoder outputs (B, S, 2H), first decoder state (B, H) and mask (B, S)."""
        enc_outputs, state = self.encoder(src, src_lens)
        lens = src_lens.to(src.device, non_blocking=True).unsqueeze(1)
        mask = torch.arange(src.size(1), device=src.device) < lens
        return enc_outputs, state, mask

    def forward(self, src: Tensor, src_lens: Tensor, trg_in: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the logits (B, T, V) and weights (B, T, S) under teacher forcing."""
        enc_outputs, state, mask = self.encode(src, src_lens)
        return self.decoder(trg_in, state, enc_outputs, mask)

    def start(self, src: Tensor, src_lens: Tensor) -> State:
        """The state before the first word: that of the decoder (B, H), and what it looks at."""
        enc_outputs, state, mask = self.encode(src, src_lens)
        return state, self.decoder.attention.project_keys(enc_outputs), enc_outputs, mask

    def next_word(self, ids: Tensor, state: State) -> tuple[Tensor, Tensor, State]:
        """From the words before, `ids` (B,), to the next: logits (B, V), weights (B, S), state."""
        state, *source = state
        features, state, weights = self.decoder.step(self.decoder.embedding(ids), state, *source)
        return self.decoder.output(features), weights, (state, *source)


def build_model(
    src_size: int, trg_size: int, emb_size: int = 64, hidden_size: int = 64, attn_size: int = 64
) -> Seq2Seq:
    """The model of the assignment, with fresh parameters, in torch's default dtype."""
    attention = AdditiveAttention(hidden_size, 2 * hidden_size, attn_size)
    encoder = Encoder(src_size, emb_size, hidden_size)
    decoder = Decoder(trg_size, emb_size, hidden_size, 2 * hidden_size, attention)
    return init_parameters(Seq2Seq(encoder, decoder))


@torch.no_grad()
def init_parameters(model: nn.Module) -> nn.Module:
    """Draws the first parameters of a model, and returns it: each matrix, that of each gate by
    itself, by Glorot's uniform rule (Glorot and Bengio 2010, equation 16); embeddings from
    N(0, 0.1^2); biases are 0. Parameters of other kinds stay.
    """
    for module in model.modules():
        if isinstance(module, nn.Embedding):
            nn.init.normal_(module.weight, std=0.1)
            continue
        for name, param in module.named_parameters(recurse=False):
            if param.dim() == 2:  # the gates of a recurrent layer are stacked, H rows each
                for gate in param.split(getattr(module, "hidden_size", len(param))):
                    nn.init.xavier_uniform_(gate)
            elif "bias" in name:
                nn.init.zeros_(param)
    return model
