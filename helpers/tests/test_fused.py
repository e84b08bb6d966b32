"""The fused loops: the values and gradients of the model that they stand in for."""

import pytest
import torch

from helpers.build import build_model
from helpers.config import Config
from helpers.device import set_up
from helpers.fused import Fused, Read, Write
from helpers.tests.test_models import TRG_SIZE, build, inputs, pairs  # noqa: F401  (a fixture)
from helpers.tests.tiny import largest_difference


def build_bahdanau(**switches):
    set_up(seed=0)
    model = build_model(Config(emb_size=8, hidden_size=12, attn_size=10), 30, TRG_SIZE, **switches)
    for weight in model.parameters():  # far from uniform attention
        weight.data.mul_(2)
    return model


def values_and_gradients(module, model, given):
    """Of a loss to which logits and weights contribute, each in its own way."""
    model.zero_grad()
    logits, weights = module(*given)
    factors = torch.linspace(-1, 1, logits.numel()).view_as(logits)
    (logits * factors).sum().add((weights**2).sum()).backward()
    return [logits, weights, *(weight.grad for weight in model.parameters())]


@pytest.mark.parametrize("switches", [{}, {"pack": False}, {"mask": False}], ids=str)
@pytest.mark.parametrize("count", [4, 1])
def test_values_and_gradients_are_those_of_the_model(switches, count, pairs):  # noqa: F811
    model, given = build_bahdanau(**switches), inputs(pairs[-count:])
    expected = [x.clone() for x in values_and_gradients(model, model, given)]
    found = values_and_gradients(Fused(model), model, given)
    assert min(x.abs().max() for x in expected) > 1e-3, "so that there is something to compare"
    assert largest_difference(found, expected) < 1e-12


def test_single_precision(pairs):  # noqa: F811
    model, given = build_bahdanau().float(), inputs(pairs)
    expected = [x.clone() for x in values_and_gradients(model, model, given)]
    found = values_and_gradients(Fused(model), model, given)
    assert {x.dtype for x in found} == {torch.float32}
    for some, other in zip(found, expected, strict=True):
        torch.testing.assert_close(some, other, rtol=1e-4, atol=1e-4)


def test_gradients_by_finite_differences():
    set_up(seed=0)

    def draw(*shape):
        return torch.randn(shape, requires_grad=True)

    assert torch.autograd.gradcheck(Read.apply, (draw(3, 2, 2, 9), draw(2, 9, 3), draw(2, 1, 9)))
    closed = torch.tensor([[0.0, 0.0], [0.0, -torch.inf]])
    shapes = ((3, 2, 9), (2, 2, 4), (2, 2, 9), (2, 3), (13, 3), (13,), (4,))
    assert torch.autograd.gradcheck(Write.apply, (*(draw(*shape) for shape in shapes), closed))


@pytest.mark.parametrize("kind", ["luong", "location", "lstm", "transformer"])
def test_another_model_is_called_itself(kind, pairs):  # noqa: F811
    model, given = build(kind).eval(), inputs(pairs)
    for some, other in zip(Fused(model)(*given), model(*given), strict=True):
        assert some.equal(other)


def test_own_words_and_half_precision_are_left_to_the_model(pairs):  # noqa: F811
    model, given = build_bahdanau(), inputs(pairs)
    forced = torch.rand(given[2].shape) < 0.5
    assert Fused(model)(*given, forced)[0].equal(model(*given, forced)[0])
    assert not Fused(model)(*given, forced)[0].equal(model(*given)[0])
    with torch.autocast("cpu", enabled=True):
        assert Fused(model)(*given)[0].equal(model(*given)[0])


def test_padding_does_not_matter(pairs):  # noqa: F811
    model = build_bahdanau()
    together, _ = Fused(model)(*inputs(pairs))
    for i, pair in enumerate(pairs):
        alone, _ = Fused(model)(*inputs([pair]))
        assert (alone[0] - together[i, : alone.size(1)]).abs().max() < 1e-12
