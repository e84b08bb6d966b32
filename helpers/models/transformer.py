"""The Transformer encoder-decoder (Vaswani et al. 2017, arXiv:1706.03762), on torch's own layers.

Shapes: B batch, S source length, T target length, E embedding, V vocabulary; True is a real token.
"""

import torch
import torch.nn.functional as F
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

    def forward(self, emb: Tensor, first: int = 0) -> Tensor:
        """Takes and returns (B, T, E), of positions that are counted from `first`."""
        positions = torch.arange(first, first + emb.size(1), device=emb.device)
        angles = positions.unsqueeze(1) * self.rates  # (T, E/2)
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
        return self.feed_forward(trg), weights

    def feed_forward(self, trg: Tensor) -> Tensor:
        """The last part of the layer, (B, T, E) as well."""
        hidden = self.dropout(self.activation(self.linear1(self.norm3(trg))))
        return trg + self.dropout3(self.linear2(hidden))

    def step(self, trg: Tensor, mask: Tensor, cache: State) -> tuple[Tensor, Tensor, State]:
        """As `forward` at a single position, `trg` (B, 1, E). The `cache` holds keys and values of
        the memory, and of the positions before, (B, S, E) and (B, T, E); it comes back with those
        of this position.
        """
        memory, (keys, values) = cache[:2], cache[2:]
        query = self.norm1(trg)
        new_keys, new_values = keys_and_values(self.self_attn, query)
        own = torch.cat([keys, new_keys], dim=1), torch.cat([values, new_values], dim=1)
        context, _ = attend(self.self_attn, query, *own)
        trg = trg + self.dropout1(context)
        context, weights = attend(self.multihead_attn, self.norm2(trg), *memory, mask)
        return self.feed_forward(trg + self.dropout2(context)), weights, (*memory, *own)


def keys_and_values(attention: nn.MultiheadAttention, x: Tensor) -> tuple[Tensor, Tensor]:
    """Those of all heads, side by side, of `x` (B, T, E): (B, T, E) each."""
    size = x.size(-1)
    weight, bias = attention.in_proj_weight[size:], attention.in_proj_bias[size:]
    return F.linear(x, weight, bias).chunk(2, dim=-1)


def attend(
    attention: nn.MultiheadAttention,
    x: Tensor,
    keys: Tensor,
    values: Tensor,
    mask: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """What torch's attention returns for `x` (B, 1, E), with keys and values (B, T, E) that are
    projected already: (B, 1, E) and the weights (B, 1, T), the mean of all heads.
    """
    size, heads = x.size(-1), attention.num_heads
    query = F.linear(x, attention.in_proj_weight[:size], attention.in_proj_bias[:size])
    query, keys, values = (
        part.unflatten(-1, (heads, -1)).transpose(1, 2) for part in (query, keys, values)
    )  # (B, heads, T, E / heads)
    energy = query @ keys.transpose(2, 3) / (size / heads) ** 0.5  # (B, heads, 1, T)
    if mask is not None:
        energy = energy.masked_fill(~mask[:, None, None], -torch.inf)
    weights = energy.softmax(dim=-1)
    context = (weights @ values).transpose(1, 2).flatten(2)
    return attention.out_proj(context), weights.mean(dim=1)


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
        lens = src_lens.to(src.device, non_blocking=True).unsqueeze(1)
        mask = torch.arange(src.size(1), device=src.device) < lens
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
        """The state before the first word: the mask, and for each layer its cache (see
        `DecoderLayer.step`), in which nothing is written yet.
        """
        memory, mask = self.encode(src, src_lens)
        nothing, state = memory[:, :0], [mask]
        for layer in self.layers:
            state += [*keys_and_values(layer.multihead_attn, memory), nothing, nothing]
        return tuple(state)

    def next_word(self, ids: Tensor, state: State) -> tuple[Tensor, Tensor, State]:
        """From the previous words `ids` (B,) to the logits (B, V) of the next, the weights (B, S)
        and the new state. What was written before is in the caches, and is not read again.
        """
        mask, *caches = state
        emb = self.trg_embedding(ids).unsqueeze(1)  # (B, 1, E)
        trg, new = self.dropout(self.position(emb, first=caches[2].size(1))), [mask]
        for i, layer in enumerate(self.layers):
            trg, weights, cache = layer.step(trg, mask, tuple(caches[4 * i : 4 * i + 4]))
            new += cache
        return self.output(self.norm(trg))[:, 0], weights[:, 0], tuple(new)
