"""The Transformer encoder-decoder (Vaswani et al. 2017, arXiv:1706.03762), on torch's own layers.

Shapes: B batch, S source length, T target length, E embedding, V vocabulary; True is a real token.
"""

import torch
from torch import Tensor, nn

from helpers.model import State


class PositionalEncoding(nn.Module):
    """Adds to each embedding where it stands: sines and cosines of its position (section 3.5)."""

    def __init__(self, emb_size: int):
        """Raises ValueError for an odd `emb_size`: each frequency needs a sine and a cosine."""
        super().__init__()
        if emb_size % 2:
            raise ValueError(f"the positional encoding needs an even emb_size, not {emb_size}")
        self.register_buffer("rates", 10_000.0 ** (-torch.arange(0, emb_size, 2) / emb_size))

    def forward(self, emb: Tensor) -> Tensor:
        """Takes and returns (B, T, E)."""
        angles = torch.arange(emb.size(1), device=emb.device).unsqueeze(1) * self.rates  # (T, E/2)
        return emb + torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(1)


class DecoderLayer(nn.TransformerDecoderLayer):
    """Torch's decoder layer, with the layer norms first; it also tells where it looked."""

    def forward(self, trg: Tensor, causal: Tensor, memory: Tensor, mask: Tensor):
        """Reads `trg` (B, T, E), where True in `causal` (T, T) is a position that may not be seen,
        and `memory` (B, S, E). Returns (B, T, E) and the weights (B, T, S), the mean of all heads.
        """
        query = self.norm1(trg)
        context, _ = self.self_attn(query, query, query, attn_mask=causal, need_weights=False)
        trg = trg + self.dropout1(context)
        query = self.norm2(trg)
        context, weights = self.multihead_attn(query, memory, memory, key_padding_mask=~mask)
        trg = trg + self.dropout2(context)
        hidden = self.dropout(self.activation(self.linear1(self.norm3(trg))))
        return trg + self.dropout3(self.linear2(hidden)), weights


class Transformer(nn.Module):
    """Encoder and decoder without recurrence: every position reads all others at once."""

    copies = any_length = False
    longest = 0  # steps that the longest target of its training takes, as far as is known

    def __init__(
        self,
        src_size: int,
        trg_size: int,
        emb_size: int = 64,
        hidden_size: int = 64,
        heads: int = 4,
        layers: int = 2,
        dropout: float = 0.0,
    ):
        """`hidden_size` is that of the feed-forward layers; `heads` must divide `emb_size`."""
        super().__init__()
        self.src_embedding = nn.Embedding(src_size, emb_size)
        self.trg_embedding = nn.Embedding(trg_size, emb_size)
        self.position, self.dropout = PositionalEncoding(emb_size), nn.Dropout(dropout)
        options = {"d_model": emb_size, "nhead": heads, "dim_feedforward": hidden_size}
        options |= {"dropout": dropout, "batch_first": True, "norm_first": True}
        layer = nn.TransformerEncoderLayer(**options)
        self.encoder = nn.TransformerEncoder(
            layer, layers, nn.LayerNorm(emb_size), enable_nested_tensor=False
        )
        self.layers = nn.ModuleList([DecoderLayer(**options) for _ in range(layers)])
        self.norm = nn.LayerNorm(emb_size)
        self.output = nn.Linear(emb_size, trg_size)

    def forward(self, src: Tensor, src_lens: Tensor, trg_in: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the logits (B, T, V) of the next words, each from the true previous words alone,
        and the weights (B, T, S) of the last layer on the source.
        """
        features, weights = self.decode(trg_in, *self.encode(src, src_lens))
        return self.output(features), weights

    def encode(self, src: Tensor, src_lens: Tensor) -> tuple[Tensor, Tensor]:
        """What the decoder looks at: the memory (B, S, E) and the mask (B, S) of real tokens."""
        mask = torch.arange(src.size(1), device=src.device) < src_lens.unsqueeze(1)
        memory = self.encoder(
            self.dropout(self.position(self.src_embedding(src))), src_key_padding_mask=~mask
        )
        return memory, mask

    def decode(self, trg_in: Tensor, memory: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """The features (B, T, E) from which `output` predicts the next words, and the weights."""
        length = trg_in.size(1)
        causal = torch.ones(length, length, dtype=torch.bool, device=trg_in.device).triu(diagonal=1)
        trg = self.dropout(self.position(self.trg_embedding(trg_in)))
        for layer in self.layers:
            trg, weights = layer(trg, causal, memory, mask)
        return self.norm(trg), weights

    def start(self, src: Tensor, src_lens: Tensor) -> State:
        """The state before the first word: nothing written yet, and what there is to look at."""
        return src.new_zeros(len(src), 0), *self.encode(src, src_lens)

    def next_word(self, ids: Tensor, state: State) -> tuple[Tensor, Tensor, State]:
        """From the previous words `ids` (B,) to the logits (B, V) of the next, the weights (B, S)
        and the new state. All that was written is read again each time: simple, but slow.
        """
        written, *source = state
        written = torch.cat([written, ids.unsqueeze(1)], dim=1)
        features, weights = self.decode(written, *source)
        return self.output(features[:, -1]), weights[:, -1], (written, *source)
