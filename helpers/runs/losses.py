"""Other losses: with softer targets, with the opinion of a teacher, over a large vocabulary."""

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

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


class LargeOutput(torch.autograd.Function):
    """Output layer and loss in one, a few hundred words at a time: the logits of a batch over a
    large vocabulary would be the largest tensor by far, and be read and written many times.

    Takes what is before the output layer (N, E), its matrix (V, E) and biases (V,), the words (N,)
    and the share `smoothing`; returns the summed `smoothed_cross_entropy`. The gradient is computed
    at once: with p, the softmax of the logits, that of a logit is p - smoothing / V, at the right
    word less 1 - smoothing besides. In mixed precision (`low`) the products are in bfloat16.
    """

    ROWS = 512

    @staticmethod
    def forward(ctx, hidden, weight, bias, words, smoothing, low):
        size, dtype = len(weight), torch.bfloat16 if low else weight.dtype
        d_hidden = torch.empty_like(hidden, dtype=weight.dtype)
        d_weight, d_bias = torch.zeros_like(weight), torch.zeros_like(bias)
        loss = weight.new_zeros(())
        matrix, offset = weight.to(dtype), bias.to(dtype)
        parts = zip(*(x.split(LargeOutput.ROWS) for x in (hidden, words, d_hidden)), strict=True)
        for h, word, d_h in parts:
            h, word = h.to(dtype), word.unsqueeze(1)
            logits = torch.addmm(offset, h, matrix.t()).to(weight.dtype)
            log_sum = logits.logsumexp(dim=1, keepdim=True)
            right, mean = logits.gather(1, word), logits.mean(dim=1, keepdim=True)
            loss += (log_sum - (1 - smoothing) * right - smoothing * mean).sum()
            d_logits = logits.sub_(log_sum).exp_().sub_(smoothing / size)
            d_logits.scatter_add_(1, word, torch.full_like(right, smoothing - 1))
            d_bias += d_logits.sum(dim=0)
            d_logits = d_logits.to(dtype)
            d_h.copy_(d_logits @ matrix)
            d_weight += d_logits.t() @ h
        ctx.save_for_backward(d_hidden.to(hidden.dtype), d_weight, d_bias)
        return loss

    @staticmethod
    @once_differentiable
    def backward(ctx, d_loss):
        return *(d * d_loss for d in ctx.saved_tensors), None, None, None
