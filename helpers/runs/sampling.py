"""Scheduled sampling: a decoder that reads some of its own words in training."""

import torch
from torch import Tensor, nn


class OwnWords(nn.Module):
    """A model, called in training so that it reads some of its own words instead of the true ones
    (Bengio et al. 2015, arXiv:1506.03099).
    """

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(
        self, src: Tensor, src_lens: Tensor, trg_in: Tensor, forced: Tensor
    ) -> tuple[Tensor, Tensor]:
        """As the model does, returns logits (B, T, V) and weights (B, T, S). Where `forced` (B, T)
        is False, a step reads the likeliest word of the step before instead of that in `trg_in`
        (B, T); the first step reads <bos>.
        """
        state, ids = self.model.start(src, src_lens), trg_in[:, 0]
        all_logits, all_weights = [], []
        for t in range(trg_in.size(1)):
            if t > 0:
                ids = torch.where(forced[:, t], trg_in[:, t], all_logits[-1].argmax(dim=-1))
            logits, weights, state = self.model.next_word(ids, state)
            all_logits.append(logits)
            all_weights.append(weights)
        return torch.stack(all_logits, dim=1), torch.stack(all_weights, dim=1)
