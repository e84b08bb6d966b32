"""Two other losses: with softer targets, and with the opinion of a teacher."""

import torch.nn.functional as F
from torch import Tensor

from helpers.data import PAD


def smoothed_cross_entropy(logits: Tensor, trg_out: Tensor, smoothing: float) -> Tensor:
    """As `masked_cross_entropy`, summed, but a share `smoothing` of each target is spread evenly
    over the whole vocabulary (Szegedy et al. 2016, arXiv:1512.00567, section 7).
    """
    options = {"ignore_index": PAD, "label_smoothing": smoothing, "reduction": "sum"}
    return F.cross_entropy(logits.flatten(0, 1), trg_out.flatten(), **options)


def soft_cross_entropy(logits: Tensor, teacher_logits: Tensor, trg_out: Tensor) -> Tensor:
    """The cross-entropy of `logits` (B, T, V) with what a teacher thinks likely, `teacher_logits`,
    instead of the one true word (Hinton, Vinyals and Dean 2015, arXiv:1503.02531): summed over the
    real tokens of `trg_out` (B, T), in nats.
    """
    likely = teacher_logits.softmax(dim=-1)
    per_token = -(likely * logits.log_softmax(dim=-1)).sum(dim=-1)  # (B, T)
    return per_token[trg_out != PAD].sum()
