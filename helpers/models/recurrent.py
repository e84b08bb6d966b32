"""Recurrent encoder-decoders whose parts are chosen one by one: the cell (GRU, or LSTM as in
Sutskever, Vinyals and Le 2014, arXiv:1409.3215), the attention, the layers, and dropout.

With a GRU, additive attention, one layer and no dropout this is the model of the assignment.

Shapes: B batch, S source length, T target length, E embedding, H hidden, C context (2H, or 0
without attention), V vocabulary. In a mask, True is a real token.
"""

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from helpers.model import AdditiveAttention, State
from helpers.models import parts
from helpers.models.attentions import LocationAttention, LuongAttention, NoAttention

LAYERS = dict(zip(parts.CELLS, (nn.GRU, nn.LSTM), strict=True))
CELLS = dict(zip(parts.CELLS, (nn.GRUCell, nn.LSTMCell), strict=True))
ATTENTIONS = dict(
    zip(
        parts.ATTENTIONS,
        (  # of the sizes of the query, of the values, and of the hidden layer of the attention
            AdditiveAttention,
            lambda query_size, value_size, _: LuongAttention(query_size, value_size),
            lambda query_size, value_size, _: LuongAttention(query_size, value_size, False),
            LocationAttention,
            lambda query_size, value_size, _: NoAttention(),
        ),
        strict=True,
    )
)
LONG = 10_000  # tokens; a longer source is read in pieces of so many


class RecurrentEncoder(nn.Module):
    """Reads the source in both directions, in one layer or several, one on top of the other."""

    def __init__(
        self,
        vocab_size: int,
        emb_size: int,
        hidden_size: int,
        cell: str,
        layers: int,
        dropout: float,
    ):
        super().__init__()
        self.embedding, self.dropout = nn.Embedding(vocab_size, emb_size), nn.Dropout(dropout)
        sizes = {"input_size": emb_size, "hidden_size": hidden_size, "num_layers": layers}
        self.rnn = LAYERS[cell](
            **sizes, dropout=dropout if layers > 1 else 0, batch_first=True, bidirectional=True
        )
        self.bridge = nn.Linear(2 * hidden_size, hidden_size)  # from two directions to one
        self.cell_bridge = nn.Linear(2 * hidden_size, hidden_size) if cell == "lstm" else None

    def forward(self, src: Tensor, src_lens: Tensor) -> tuple[Tensor, State]:
        """Reads `src` (B, S) of `src_lens` (B,) real tokens. Returns the top layer's hidden state
        at every token (B, S, 2H), 0 on padding, and the decoder's first state: for each layer its
        hidden state (B, H), in an LSTM followed by its cell (B, H).
        """
        alone = len(src) == 1 and src_lens[0] == src.size(1) > LONG
        if alone and not (self.training or torch.is_grad_enabled()):
            enc_outputs, final = self.read_in_pieces(src)
        else:
            enc_outputs, final = self.read(src, src_lens)
        if self.cell_bridge is None:
            return self.dropout(enc_outputs), tuple(torch.tanh(self.bridge(join(final))))
        hidden, cell = torch.tanh(self.bridge(join(final[0]))), self.cell_bridge(join(final[1]))
        state = (part for layer in zip(hidden, cell, strict=True) for part in layer)
        return self.dropout(enc_outputs), tuple(state)

    def read(self, src: Tensor, src_lens: Tensor) -> tuple[Tensor, Tensor | tuple[Tensor, Tensor]]:
        """The hidden states of the top layer, and the final ones of all layers and directions."""
        emb = self.dropout(self.embedding(src))  # (B, S, E)
        lens, length = src_lens.cpu(), src.size(1)  # torch wants these lengths on the CPU
        falling = src.is_cuda and not (lens.diff() > 0).any()  # no GPU need wait for a sort then
        packed = pack_padded_sequence(emb, lens, batch_first=True, enforce_sorted=falling)
        packed, final = self.rnn(packed)
        return pad_packed_sequence(packed, batch_first=True, total_length=length)[0], final

    def read_in_pieces(self, src: Tensor) -> tuple[Tensor, Tensor | tuple[Tensor, Tensor]]:
        """As `read`, without dropout and without gradients, of one source (1, S) without padding:
        each direction of a layer goes through it in pieces of `LONG` tokens. Beside what it returns
        that needs the memory of a piece, where `read` needs three times as much as what it returns.
        """
        size, starts, outputs, finals = self.rnn.hidden_size, range(0, src.size(1), LONG), None, []
        for i, params in enumerate(self.rnn.all_weights):  # of layer i // 2, forth or back
            back, width = i % 2, params[0].size(1)
            if not back:
                below, outputs = outputs, params[0].new_empty(1, src.size(1), 2 * size)
            one = type(self.rnn)(width, size, batch_first=True, device="meta")
            one.load_state_dict(dict(zip(one.state_dict(), params, strict=True)), assign=True)
            final = None
            for start in reversed(starts) if back else starts:
                part = slice(start, start + LONG)
                x = self.embedding(src[:, part]) if below is None else below[:, part]
                y, final = one(x.flip(1) if back else x, final)
                outputs[:, part, size * back :][..., :size] = y.flip(1) if back else y
            finals.append(final)
        if isinstance(self.rnn, nn.LSTM):  # hidden state and cell
            return outputs, tuple(map(torch.cat, zip(*finals, strict=True)))
        return outputs, torch.cat(finals)


def join(final: Tensor) -> Tensor:
    """The final states of both directions of each layer (2 layers, B, H) as (layers, B, 2H)."""
    forth, back = final.unflatten(0, (-1, 2)).unbind(dim=1)
    return torch.cat([forth, back], dim=-1)


class Readout(nn.Module):
    """The output layer of Bahdanau, Cho and Bengio (2015, arXiv:1409.0473, appendix A.2.2): a layer
    of the embedding's size, of which each unit is the larger of two (maxout), before the words. A
    large vocabulary then has E numbers a word to learn, not H + C; `tied`, it shares those of the
    `embedding` (Press and Wolf 2017, arXiv:1608.05859).
    """

    def __init__(self, feature_size: int, embedding: nn.Embedding, tied: bool, dropout: float):
        super().__init__()
        vocab_size, emb_size = embedding.weight.shape
        self.hidden, self.dropout = nn.Linear(feature_size, 2 * emb_size), nn.Dropout(dropout)
        self.words = nn.Linear(emb_size, vocab_size)
        if tied:
            self.words.weight = embedding.weight

    def forward(self, features: Tensor) -> Tensor:
        """From features (..., H + C + E) to logits (..., V)."""
        return self.words(self.before_words(features))

    def before_words(self, features: Tensor) -> Tensor:
        """The layer of the embedding's size (..., E)."""
        return self.dropout(torch.maximum(*self.hidden(features).chunk(2, dim=-1)))


class RecurrentDecoder(nn.Module):
    """Looks at the source before every word that it writes, with the hidden state of its top layer
    as the query. The first layer reads the previous word and the context.
    """

    def __init__(
        self,
        vocab_size: int,
        emb_size: int,
        hidden_size: int,
        cell: str,
        attention: str,
        attn_size: int | None,
        layers: int,
        dropout: float,
        output: str,
    ):
        super().__init__()
        self.embedding, self.dropout = nn.Embedding(vocab_size, emb_size), nn.Dropout(dropout)
        self.attention = ATTENTIONS[attention](hidden_size, 2 * hidden_size, attn_size)
        context_size = 0 if attention == "none" else 2 * hidden_size
        inputs = [emb_size + context_size] + [hidden_size] * (layers - 1)
        self.cells = nn.ModuleList([CELLS[cell](size, hidden_size) for size in inputs])
        size = hidden_size + context_size
        if output == "linear":
            self.output = nn.Linear(size, vocab_size)
        else:
            tied = output == "tied"
            self.output = Readout(size + emb_size, self.embedding, tied, dropout)

    def step(
        self, ids: Tensor, state: State, keys: Tensor, values: Tensor, mask: Tensor
    ) -> tuple[Tensor, State, Tensor]:
        """One step, from the previous words `ids` (B,) and the state of all layers. Returns the
        features for `output`, (B, H + C) or, for a `Readout`, (B, H + C + E), the new state and the
        weights (B, S).
        """
        parts = len(state) // len(self.cells)  # of the state of a layer: 2 in an LSTM
        query = self.dropout(state[-parts])
        context, weights = self.attention(query, keys, values, mask)
        emb = self.dropout(self.embedding(ids))
        x, new_state = torch.cat([emb, context], dim=-1), []
        for i, cell in enumerate(self.cells):
            x = self.dropout(x) if i > 0 else x
            old = state[parts * i : parts * (i + 1)]
            new = cell(x, old) if parts == 2 else (cell(x, *old),)
            new_state += new
            x = new[0]
        seen = [emb] if isinstance(self.output, Readout) else []
        return torch.cat([x, context, *seen], dim=-1), tuple(new_state), weights


class RecurrentSeq2Seq(nn.Module):
    """Encoder and decoder together."""

    copies = any_length = False
    longest = 0  # steps that the longest target of its training takes, as far as is known

    def __init__(
        self,
        src_size: int,
        trg_size: int,
        emb_size: int = 64,
        hidden_size: int = 64,
        cell: str = "gru",
        attention: str = "bahdanau",
        attn_size: int | None = 64,
        layers: int = 1,
        dropout: float = 0.0,
        output: str = "linear",
    ):
        super().__init__()
        sizes = emb_size, hidden_size, cell
        self.encoder = RecurrentEncoder(src_size, *sizes, layers, dropout)
        rest = attention, attn_size, layers, dropout, output
        self.decoder = RecurrentDecoder(trg_size, *sizes, *rest)

    def start(self, src: Tensor, src_lens: Tensor) -> State:
        """The state before the first word: that of the decoder (see `RecurrentEncoder`), and what
        it looks at: keys, values and mask.
        """
        values, state = self.encoder(src, src_lens)
        lens = src_lens.to(src.device, non_blocking=True).unsqueeze(1)
        mask = torch.arange(src.size(1), device=src.device) < lens
        return *state, self.decoder.attention.project_keys(values), values, mask

    def step(self, ids: Tensor, state: State) -> tuple[Tensor, Tensor, State]:
        """From the previous words `ids` (B,) to the features from which `output`
        predicts the next, the weights (B, S) and the new state.
        """
        *state, keys, values, mask = state
        features, state, weights = self.decoder.step(ids, tuple(state), keys, values, mask)
        return features, weights, (*state, keys, values, mask)

    def next_word(self, ids: Tensor, state: State) -> tuple[Tensor, Tensor, State]:
        """As `step`, but with the logits (B, V) of the next words."""
        features, weights, state = self.step(ids, state)
        return self.decoder.output(features), weights, state

    def forward(self, src: Tensor, src_lens: Tensor, trg_in: Tensor) -> tuple[Tensor, Tensor]:
        """Teacher forcing: returns the logits (B, T, V) of the next words, each from the true
        previous words, and the weights (B, T, S).
        """
        state, all_features, all_weights = self.start(src, src_lens), [], []
        for ids in trg_in.unbind(dim=1):
            features, weights, state = self.step(ids, state)
            all_features.append(features)
            all_weights.append(weights)
        logits = self.decoder.output(torch.stack(all_features, dim=1))
        return logits, torch.stack(all_weights, dim=1)
