"""Other ways to look back, each in the place of `AdditiveAttention`: Luong's, one that knows where
it looked last, and none at all.

Shapes: B batch, S source length, H hidden, A attention. In a mask, True is a real token. Each has
`project_keys` and the signature of `AdditiveAttention.forward`.
"""

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from helpers.model import AdditiveAttention, look_up


class LocationAttention(AdditiveAttention):
    """Additive attention that sees where it looked in the step before: it scores with
    v . tanh(W q + U k + F a), where F a is a convolution of the previous weights a over `width`
    places (Chorowski et al. 2015, arXiv:1506.07503, equations 8 and 9, with one matrix F in place
    of their product U F, and no bias). Whoever uses it calls `locate` before each step; without
    it, this is additive attention.
    """

    def __init__(self, query_size: int, key_size: int, attn_size: int, width: int = 5):
        if not width % 2:
            raise ValueError(f"as many places on either side: the width must be odd, not {width}")
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


class NoAttention(nn.Module):
    """In the place of an attention: the context is empty, and the weights are 0 everywhere."""

    def project_keys(self, values: Tensor) -> Tensor:
        """Nothing (B, S, 0): there is no key."""
        return values[..., :0]

    def forward(
        self, query: Tensor, keys: Tensor, values: Tensor, mask: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Returns a context of no numbers (B, 0) and weights of 0 (B, S)."""
        return values.new_zeros(len(values), 0), values.new_zeros(mask.shape)
