"""The GRU encoder-decoder with attention: additive (Bahdanau, Cho and Bengio 2015) or Luong's.

Shapes: B batch, S source length, T target length, E embedding, H hidden, A attention, V vocabulary.
The encoder is bidirectional, so that its outputs have 2H features. In a mask, True is a real token.
The appendix named in brackets is that of the paper (arXiv:1409.0473).
"""

import torch
from torch import Tensor, nn
from torch.nn.functional import pad
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

State = tuple[Tensor, ...]


class Encoder(nn.Module):
    """A bidirectional GRU: one hidden state for each source token (appendix A.2.1).

    `pack=False` lets the GRU read the padding as if it were words: the fault of the padding lab.
    """

    def __init__(self, vocab_size: int, emb_size: int, hidden_size: int, pack: bool = True):
        super().__init__()
        self.pack = pack
        self.embedding = nn.Embedding(vocab_size, emb_size)
        self.gru = nn.GRU(emb_size, hidden_size, batch_first=True, bidirectional=True)
        self.bridge = nn.Linear(2 * hidden_size, hidden_size)

    def forward(self, src: Tensor, src_lens: Tensor) -> tuple[Tensor, Tensor]:
        """Reads `src` (B, S) of `src_lens` (B,) real tokens; returns the hidden state at every
        token (B, S, 2H) and the decoder's first state (B, H). If packed, the outputs are zero on
        padding, and a source without a token raises RuntimeError.
        """
        emb = self.embedding(src)  # (B, S, E)
        if self.pack:
            lens, length = src_lens.cpu(), src.size(1)  # torch wants these lengths on the CPU
            packed = pack_padded_sequence(emb, lens, batch_first=True, enforce_sorted=False)
            packed, final = self.gru(packed)  # final: (2, B, H), one for each direction
            enc_outputs, _ = pad_packed_sequence(packed, batch_first=True, total_length=length)
        else:
            enc_outputs, final = self.gru(emb)
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


class LocationAttention(AdditiveAttention):
    """Additive attention that sees where it looked in the step before: it scores with
    v . tanh(W q + U k + F a), where F a is a convolution of the previous weights a over `width`
    places (Chorowski et al. 2015, arXiv:1506.07503, equations 8 and 9, with one matrix F in place
    of their product U F, and no bias). Whoever uses it calls `locate` before each step; without
    it, this is additive attention.
    """

    def __init__(self, query_size: int, key_size: int, attn_size: int, width: int = 5):
        super().__init__(query_size, key_size, attn_size)
        self.location = nn.Linear(width, attn_size, bias=False)  # F, on `width` weights

    def locate(self, keys: Tensor, previous: Tensor) -> Tensor:
        """U k + F a: the keys (B, S, A) of the next step, after one with weights `previous` (B, S).
        With these in place of the keys, all else is as in `AdditiveAttention`.
        """
        width = self.location.in_features
        windows = pad(previous, (width // 2, width // 2)).unfold(1, width, 1)  # (B, S, width)
        return keys + self.location(windows)


class LuongAttention(nn.Module):
    """Scores a query against every key by a dot product (Luong, Pham and Manning 2015,
    arXiv:1508.04025, section 3.1): their "general", q . U k, or, without `general`, their "dot",
    q . k, for which the two directions of the encoder are added up.
    """

    def __init__(self, query_size: int, key_size: int, general: bool = True):
        super().__init__()
        self.query_size = query_size
        self.general = nn.Linear(key_size, query_size, bias=False) if general else None  # U

    def project_keys(self, values: Tensor) -> Tensor:
        """From the values (B, S, 2H) to the keys (B, S, H)."""
        if self.general:
            return self.general(values)
        return values.unflatten(-1, (-1, self.query_size)).sum(dim=-2)

    def forward(
        self, query: Tensor, keys: Tensor, values: Tensor, mask: Tensor
    ) -> tuple[Tensor, Tensor]:
        """As `AdditiveAttention`, but for the keys, which are (B, S, H)."""
        # a row before the matrices: in torch much faster than a column behind them
        energy = torch.bmm(query.unsqueeze(1), keys.transpose(1, 2)).squeeze(1)  # (B, S)
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
        self,
        trg_in: Tensor,
        state: Tensor,
        enc_outputs: Tensor,
        mask: Tensor,
        forced: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Teacher forcing: every step reads the true previous word, from `trg_in` (B, T).

        Where `forced` (B, T) is False, the step reads the likeliest word of the step before instead
        (scheduled sampling, Bengio et al. 2015, arXiv:1506.03099); the first step reads <bos>.
        Returns the logits (B, T, V) of the next words and the attention weights (B, T, S).
        """
        keys = self.attention.project_keys(enc_outputs)  # (B, S, A), once for all steps
        all_features, all_weights = [], []
        for t, emb in enumerate(self.embedding(trg_in).unbind(dim=1)):
            if forced is not None and t > 0:
                own = self.embedding(self.output(all_features[-1]).argmax(dim=-1))  # (B, E)
                emb = torch.where(forced[:, t, None], emb, own)
            features, state, weights = self.step(emb, state, keys, enc_outputs, mask)
            all_features.append(features)
            all_weights.append(weights)
        logits = self.output(torch.stack(all_features, dim=1))
        return logits, torch.stack(all_weights, dim=1)


class Seq2Seq(nn.Module):
    """Encoder and decoder together. `mask=False` lets the attention look at padding (a fault)."""

    def __init__(self, encoder: Encoder, decoder: Decoder, mask: bool = True):
        super().__init__()
        self.encoder, self.decoder, self.use_mask = encoder, decoder, mask

    def encode(self, src: Tensor, src_lens: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Returns encoder outputs (B, S, 2H), first decoder state (B, H) and mask (B, S)."""
        enc_outputs, state = self.encoder(src, src_lens)
        return enc_outputs, state, self.visible(src, src_lens)

    def visible(self, src: Tensor, src_lens: Tensor) -> Tensor:
        """True (B, S) where the attention may look: at real tokens."""
        mask = torch.arange(src.size(1), device=src.device) < src_lens.unsqueeze(1)
        return mask if self.use_mask else torch.ones_like(mask)

    def forward(
        self, src: Tensor, src_lens: Tensor, trg_in: Tensor, forced: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Returns the logits (B, T, V) and attention weights (B, T, S) under teacher forcing, of
        all steps or of those where `forced` (B, T) is True.
        """
        enc_outputs, state, mask = self.encode(src, src_lens)
        return self.decoder(trg_in, state, enc_outputs, mask, forced)

    def start(self, src: Tensor, src_lens: Tensor) -> State:
        """The state before the first word: that of the decoder (B, H), and what it looks at."""
        enc_outputs, state, mask = self.encode(src, src_lens)
        return state, self.decoder.attention.project_keys(enc_outputs), enc_outputs, mask

    def next_word(self, ids: Tensor, state: State) -> tuple[Tensor, Tensor, State]:
        """From the previous words `ids` (B,) to the logits (B, V) of the next, the weights (B, S)
        and the new state.
        """
        state, *source = state
        features, state, weights = self.decoder.step(self.decoder.embedding(ids), state, *source)
        return self.decoder.output(features), weights, (state, *source)
