"""Other ways to look back, each against a plain loop or by hand."""

import pytest
import torch
import torch.nn.functional as F

from helpers.models.attentions import LocationAttention, LuongAttention, NoAttention
from helpers.models.recurrent import ATTENTIONS
from helpers.training import set_up


@pytest.mark.parametrize("general", [True, False])
def test_luong_attention_against_a_plain_loop(general):
    set_up(seed=0)
    attention = LuongAttention(3, 6, general)
    query, values = torch.randn(2, 3), torch.randn(2, 4, 6)
    lens = [4, 2]
    mask = torch.arange(4) < torch.tensor(lens).unsqueeze(1)
    context, weights = attention(query, attention.project_keys(values), values, mask)
    for b, n in enumerate(lens):
        scores = []
        for j in range(n):
            forwards, backwards = values[b, j, :3], values[b, j, 3:]
            key = attention.general.weight @ values[b, j] if general else forwards + backwards
            scores.append(torch.exp(query[b] @ key).item())
        expected = [score / sum(scores) for score in scores] + [0.0] * (4 - n)
        assert weights[b].tolist() == pytest.approx(expected, abs=1e-12)
        summed = sum(weight * value for weight, value in zip(expected, values[b], strict=True))
        assert (context[b] - summed).abs().max() < 1e-12


def test_location_attention_sees_the_weights_of_the_step_before():
    set_up(seed=0)
    attention = LocationAttention(query_size=4, key_size=6, attn_size=5, width=3)
    query, values = torch.randn(2, 4), torch.randn(2, 7, 6)
    previous, mask = torch.rand(2, 7), torch.arange(7) < torch.tensor([[7], [4]])
    keys = attention.project_keys(values)
    _, weights = attention(query, attention.locate(keys, previous), values, mask)
    filters = attention.location.weight  # (A, 3)
    for b, length in enumerate((7, 4)):
        padded = F.pad(previous[b], (1, 1))
        energy = torch.stack(
            [
                attention.score.weight[0]
                @ torch.tanh(
                    attention.project_query.weight @ query[b]
                    + attention.project_keys.weight @ values[b, j]
                    + filters @ padded[j : j + 3]
                )
                for j in range(length)
            ]
        )
        torch.testing.assert_close(weights[b, :length], energy.softmax(dim=0))
    assert attention.locate(keys, torch.zeros(2, 7)).equal(keys)


def test_luongs_dot_by_hand():
    """Two directions of one number each, added up: keys 3, 1 and 7; the last is padding."""
    attention = LuongAttention(1, 2, general=False)
    values = torch.tensor([[[1.0, 2.0], [0.0, 1.0], [3.0, 4.0]]])
    keys = attention.project_keys(values)
    assert keys.tolist() == [[[3.0], [1.0], [7.0]]] and not [*attention.parameters()]
    mask = torch.tensor([[True, True, False]])
    context, weights = attention(torch.tensor([[0.5]]), keys, values, mask)
    first = 1 / (1 + torch.tensor(-1.0).exp())  # energies 1.5 and 0.5
    torch.testing.assert_close(weights, torch.stack([first, 1 - first, 0 * first]).unsqueeze(0))
    torch.testing.assert_close(context, torch.stack([first, first + 1]).unsqueeze(0))


def test_no_attention_gives_nothing():
    attention = NoAttention()
    values, mask = torch.rand(2, 3, 4), torch.tensor([[True, True, True], [True, False, False]])
    keys = attention.project_keys(values)
    context, weights = attention(torch.rand(2, 5), keys, values, mask)
    assert keys.shape == (2, 3, 0) and context.shape == (2, 0) and not [*attention.parameters()]
    assert weights.tolist() == [[0.0] * 3] * 2 and weights.dtype == context.dtype == values.dtype


def test_location_attention_that_is_not_located_is_additive():
    set_up(seed=0)
    attention = LocationAttention(4, 6, 5)
    query, values, mask = torch.randn(2, 4), torch.randn(2, 7, 6), torch.rand(2, 7) < 0.7
    keys = attention.project_keys(values)
    hidden = torch.tanh(attention.project_query(query).unsqueeze(1) + keys)
    energy = attention.score(hidden).squeeze(-1).masked_fill(~mask, -torch.inf)
    assert attention(query, keys, values, mask)[1].equal(energy.softmax(dim=-1))
    assert attention.location.in_features == 5


@pytest.mark.parametrize("name", ATTENTIONS)
def test_each_looks_up_any_query_and_gives_nothing_to_padding(name):
    """In the place of `AdditiveAttention`: the same signature, the same shapes."""
    set_up(seed=0)
    attention = ATTENTIONS[name](4, 8, 5)
    query, values, mask = torch.randn(3, 4), torch.randn(3, 6, 8), torch.ones(3, 6).bool()
    mask[1, 2:] = mask[2, :5] = False
    context, weights = attention(query, attention.project_keys(values), values, mask)
    assert weights.shape == (3, 6) and weights[~mask].eq(0).all()
    if name == "none":
        return
    torch.testing.assert_close(weights.sum(dim=1), torch.ones(3))
    torch.testing.assert_close(context, torch.einsum("bs,bsv->bv", weights, values))
    torch.testing.assert_close(context[2], values[2, 5])
    changed = values.clone()
    changed[~mask] = 100.0
    again, _ = attention(query, attention.project_keys(changed), changed, mask)
    torch.testing.assert_close(again, context, rtol=0, atol=1e-12)
