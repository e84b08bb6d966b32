"""The two other losses by hand: one word after the other, in plain numbers."""

from math import exp, log

import pytest
import torch

from helpers.data import PAD
from helpers.runs.losses import smoothed_cross_entropy, soft_cross_entropy
from helpers.training import masked_cross_entropy, set_up

TRG_OUT = torch.tensor([[5, 6, 7, 2], [5, 2, PAD, PAD]])
REAL = [(0, 0), (0, 1), (0, 2), (0, 3), (1, 0), (1, 1)]


@pytest.fixture(autouse=True)
def repeatable():
    set_up(seed=0)


def log_probs(scores):
    total = sum(map(exp, scores))
    return [log(exp(score) / total) for score in scores]


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.9])
def test_label_smoothing_by_hand(smoothing):
    """A share of the target is spread over all of the vocabulary, the true word included."""
    logits = torch.randn(2, 4, 9)
    expected = 0.0
    for b, t in REAL:
        likely = log_probs(logits[b, t].tolist())
        target = [smoothing / 9] * 9
        target[TRG_OUT[b, t]] += 1 - smoothing
        assert sum(target) == pytest.approx(1)
        expected -= sum(share * value for share, value in zip(target, likely, strict=True))
    loss = smoothed_cross_entropy(logits, TRG_OUT, smoothing)
    assert loss.item() == pytest.approx(expected, abs=1e-12)
    if not smoothing:
        torch.testing.assert_close(loss, masked_cross_entropy(logits, TRG_OUT)[0])


def test_the_soft_loss_by_hand():
    logits, teacher = torch.randn(2, 4, 9), 3 * torch.randn(2, 4, 9)
    expected = 0.0
    for b, t in REAL:
        mine, theirs = (log_probs(rows[b, t].tolist()) for rows in (logits, teacher))
        expected -= sum(exp(their) * my for their, my in zip(theirs, mine, strict=True))
    loss = soft_cross_entropy(logits, teacher, TRG_OUT)
    assert loss.item() == pytest.approx(expected, abs=1e-12)


def test_a_teacher_who_is_sure_is_the_true_word():
    logits = torch.randn(2, 4, 9)
    teacher = 1000.0 * torch.nn.functional.one_hot(TRG_OUT, 9)
    loss = soft_cross_entropy(logits, teacher, TRG_OUT)
    torch.testing.assert_close(loss, masked_cross_entropy(logits, TRG_OUT)[0])


@pytest.mark.parametrize("soft", [True, False])
def test_padding_adds_nothing_to_loss_and_gradient(soft):
    def value(logits):
        if soft:
            return soft_cross_entropy(logits, teacher, TRG_OUT)
        return smoothed_cross_entropy(logits, TRG_OUT, 0.3)

    logits, teacher = torch.randn(2, 4, 9, requires_grad=True), torch.randn(2, 4, 9)
    loss = value(logits)
    loss.backward()
    assert logits.grad[1, 2:].eq(0).all() and logits.grad[0].ne(0).all()
    changed = logits.detach().clone()
    changed[1, 2:] = 100.0
    assert value(changed).equal(loss)


def test_the_gradient_is_the_difference_of_the_probabilities():
    """p - q for both losses, where q is what is taken to be true."""
    teacher = torch.randn(2, 4, 9)
    targets = [teacher.softmax(dim=-1), 0.7 * torch.nn.functional.one_hot(TRG_OUT, 9) + 0.3 / 9]
    for i, target in enumerate(targets):
        logits = torch.randn(2, 4, 9, requires_grad=True)
        losses = (soft_cross_entropy, teacher, TRG_OUT), (smoothed_cross_entropy, TRG_OUT, 0.3)
        loss, *rest = losses[i]
        loss(logits, *rest).backward()
        real = TRG_OUT != PAD
        expected = (logits.detach().softmax(dim=-1) - target)[real]
        torch.testing.assert_close(logits.grad[real], expected, rtol=0, atol=1e-12)
