"""The fused loops: the values and gradients of the model that they stand in for."""

from unittest import mock

import pytest
import torch
from torch import nn

from helpers.data import collate
from helpers.model import AdditiveAttention, Decoder, look_up
from helpers.models.attentions import LocationAttention
from helpers.runs.fused import DecoderLoop, Fused, GRULoop
from helpers.runs.losses import LargeOutput, smoothed_cross_entropy
from helpers.runs.sampling import OwnWords
from helpers.runs.settings import Settings
from helpers.runs.step import Learner
from helpers.tests.test_model import UnmaskedAttention, UnpackedEncoder
from helpers.tests.test_models import (
    KINDS,
    PLAIN,
    build,
    inputs,
    pairs,  # noqa: F401  (a fixture)
)
from helpers.tests.tiny import TINY, fresh_model, largest_difference, tiny_data

FAST = [PLAIN, "gru luong 1", "gru luong-dot 1", "gru none 1"]  # the kinds that have fast loops


def values_and_gradients(module, model, given):
    """Of a loss to which logits and weights contribute, each in its own way."""
    model.zero_grad()
    logits, weights = module(*given)
    factors = torch.linspace(-1, 1, logits.numel()).view_as(logits)
    (logits * factors).sum().add((weights**2).sum()).backward()
    return [logits, weights, *(param.grad for param in model.parameters())]


def fused(model, given):
    """A module that agrees with the model and from now on cannot call it."""
    module = Fused(model)
    module(*given)
    assert module.agrees
    refuse = mock.Mock(side_effect=AssertionError("the model was called"))
    return module, mock.patch.object(type(model), "forward", refuse)


@pytest.mark.parametrize("kind", FAST)
@pytest.mark.parametrize("count", [4, 1])
def test_values_and_gradients_are_those_of_the_model(kind, count, pairs):  # noqa: F811
    model, given = build(kind), inputs(pairs[-count:])
    expected = values_and_gradients(model, model, given)
    module, alone = fused(model, given)
    with alone:
        results = values_and_gradients(module, model, given)
    some = [x for i, x in enumerate(expected) if i != 1 or "none" not in kind]  # weights of 0
    assert min(x.abs().max() for x in some) > 1e-3, "so that there is something to compare"
    assert largest_difference(results, expected) < 1e-12


def test_single_precision(pairs):  # noqa: F811
    model, given = build(PLAIN).float(), inputs(pairs)
    expected = values_and_gradients(model, model, given)
    module, alone = fused(model, given)
    with alone:
        results = values_and_gradients(module, model, given)
    assert {x.dtype for x in results} == {torch.float32}
    for some, other in zip(results, expected, strict=True):
        torch.testing.assert_close(some, other, rtol=1e-4, atol=1e-4)


def test_gradients_by_finite_differences():
    torch.manual_seed(0)

    def draw(*shape):
        return torch.randn(shape, dtype=torch.float64, requires_grad=True)

    real = torch.ones(2, 3, 2, 1, dtype=torch.float64)
    real[0, 2, 1] = real[1, 0, 1] = 0  # the second source has two words
    of_encoder = draw(2, 3, 2, 9), draw(2, 2, 3), draw(2, 9, 3), draw(2, 1, 9), real
    assert torch.autograd.gradcheck(GRULoop.apply, of_encoder)
    penalty = torch.tensor([[0.0, 0.0], [0.0, -torch.inf]], dtype=torch.float64)
    shapes = ((3, 2, 9), (2, 2, 4), (2, 2, 9), (2, 3), (13, 3), (13,), (4,))
    *of_decoder, score = (draw(*shape) for shape in shapes)
    dropped = torch.tensor([0.0, 1.5, 1.5], dtype=torch.float64).expand(3, 2, 3)
    for mask in (None, dropped, dropped.roll(1, 2)):
        for vector in (score, None):
            given = *of_decoder, vector, penalty, mask
            assert torch.autograd.gradcheck(DecoderLoop.apply, given)


@pytest.mark.parametrize("kind", FAST)
def test_padding_does_not_matter(kind, pairs):  # noqa: F811
    module, _ = fused(build(kind), inputs(pairs))
    together, _ = module(*inputs(pairs))
    for i, pair in enumerate(pairs):
        alone, _ = module(*inputs([pair]))
        assert (alone[0] - together[i, : alone.size(1)]).abs().max() < 1e-12


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in FAST])
def test_another_model_is_called_itself(kind, pairs):  # noqa: F811
    model, given = build(kind), inputs(pairs)
    for some, other in zip(Fused(model)(*given), model(*given), strict=True):
        assert some.equal(other)


class OtherDecoder(Decoder):
    def step(self, emb, state, keys, values, mask):
        features, state, weights = super().step(emb, state, keys, values, mask)
        return features, 0.99 * state, weights


class DetachedDecoder(Decoder):
    """Only its gradients are others."""

    def step(self, emb, state, keys, values, mask):
        return super().step(emb, state.detach(), keys, values, mask)


class ReluAttention(AdditiveAttention):
    """No other than additive attention where there is a single word to look at."""

    def forward(self, query, keys, values, mask):
        energy = self.score((self.project_query(query).unsqueeze(1) + keys).relu()).squeeze(-1)
        return look_up(energy, values, mask)


class FramedDecoder(Decoder):
    """Its weights have another shape."""

    def forward(self, *given):
        logits, weights = super().forward(*given)
        return logits, nn.functional.pad(weights, (0, 1))


CHANGES = ["another step", "other gradients", "a bias", "other parts", "a relu", "other shapes"]
CHANGES += ["no packing", "no mask"]  # the faults of the padding lab


def change(model, what):
    """What somebody may do to a model who experiments with it."""
    attention = model.decoder.attention
    if what == "another step":
        model.decoder.__class__ = OtherDecoder
    elif what == "other gradients":
        model.decoder.__class__ = DetachedDecoder
    elif what == "a bias":
        attention.project_query = nn.Linear(12, 10)
    elif what == "other parts":
        attention.project_query = nn.Sequential(attention.project_query, nn.Tanh())
    elif what == "a relu":
        attention.__class__ = ReluAttention
    elif what == "no packing":
        model.encoder.__class__ = UnpackedEncoder
    elif what == "no mask":
        attention.__class__ = UnmaskedAttention
    else:
        model.decoder.__class__ = FramedDecoder
    return model


@pytest.mark.parametrize("what", CHANGES)
def test_a_model_that_was_changed_is_called_itself(what, pairs):  # noqa: F811
    """Also if the first batch has a single word."""
    model, given = change(build(PLAIN), what), inputs(pairs)
    module = Fused(model)
    module(*inputs(pairs[:1]))
    for some, other in zip(module(*given), model(*given), strict=True):
        assert some.equal(other)
    assert module.agrees is False


def test_a_mask_that_only_padding_would_show(pairs, monkeypatch):  # noqa: F811
    """The first batch has no padding, and a model that looks at it a little is found out."""

    def look_up(energy, values, mask):
        weights = torch.softmax(energy.masked_fill(~mask, -10.0), dim=-1)
        return torch.bmm(weights.unsqueeze(1), values).squeeze(1), weights

    monkeypatch.setattr("helpers.model.look_up", look_up)
    module = Fused(build(PLAIN))
    module(*inputs(pairs[:1]))
    assert module.agrees is False


def test_attention_that_only_differs_when_it_is_located(pairs):  # noqa: F811
    model, given = build(PLAIN), inputs(pairs)
    before = model.decoder.attention
    model.decoder.attention = LocationAttention(12, 24, 10)
    model.decoder.attention.load_state_dict(before.state_dict(), strict=False)
    module, alone = fused(model, given)
    expected = model(*given)
    with alone:
        assert largest_difference(module(*given), expected) < 1e-12


def test_what_the_model_refuses_does_not_decide(pairs):  # noqa: F811
    module, (src, src_lens, trg_in) = Fused(build(PLAIN)), inputs(pairs)
    with pytest.raises(IndexError):
        module(src + 1000, src_lens, trg_in)
    with pytest.raises((IndexError, RuntimeError)):
        module(src[:0], src_lens[:0], trg_in[:0])
    assert module.agrees is None
    with torch.inference_mode():
        module(src, src_lens, trg_in)
    assert module.agrees


def test_parameters_that_are_not_trained(pairs):  # noqa: F811
    model, given = build(PLAIN), inputs(pairs)
    expected = model(*given)
    for param in model.parameters():
        param.requires_grad_(False)
        module, alone = fused(model, given)
        with alone:
            assert largest_difference(module(*given), expected) < 1e-12


def test_large_numbers_in_single_precision(pairs):  # noqa: F811
    """What is close is measured by what is largest."""
    model, given = build(PLAIN).float(), inputs(pairs)
    with torch.no_grad():
        model.decoder.output.weight.mul_(1e3)
        model.encoder.embedding.weight.mul_(10)
    assert model(*given)[0].abs().max() > 500
    fused(model, given)


def test_own_words_are_left_to_the_model():
    """Word by word there is no loop to take at once: the learner calls the model itself."""
    data = tiny_data()
    model = fresh_model(data)
    for changes in ({"teacher_forcing": 0.5}, {"teacher_forcing_end": 0.0}):
        learner = Learner(model, TINY.having(**changes), steps=1)
        assert type(learner.forward) is OwnWords and learner.forward.model is model


def test_half_precision_is_left_to_the_model(pairs):  # noqa: F811
    model, given = build(PLAIN).float(), inputs(pairs)
    module, alone = fused(model, given)
    with torch.autocast("cpu", enabled=True):
        logits, _ = module(*given)
        assert logits.dtype == torch.bfloat16 and logits.equal(model(*given)[0])
        with alone, pytest.raises(AssertionError, match="the model was called"):
            module(*given)


def test_a_source_without_a_token_is_refused(pairs):  # noqa: F811
    module, (src, src_lens, trg_in) = Fused(build(PLAIN)), inputs(pairs)
    module(src, src_lens, trg_in)
    with pytest.raises(RuntimeError, match="without a token"):
        module(src, src_lens * (src_lens > 1), trg_in)


def test_training_takes_the_fast_way():
    data = tiny_data()
    learner = Learner(fresh_model(data), TINY, steps=1)
    learner.step(collate(data.pairs.train[:4]))
    assert learner.forward.agrees and learner.forward.model is learner.model


@pytest.mark.parametrize(
    "changes", [{"layers": 2}, {"cell": "lstm"}, {"attention": "location"}], ids=str
)
def test_other_cells_and_attentions_take_no_other_way(changes):
    model = Settings.of(emb_size=4, hidden_size=4, **changes).model
    built = model.build(9, 9)
    assert model.in_training(built) is built


class EveryThird(nn.Dropout):
    """It drops the same numbers each time."""

    def forward(self, x):
        kept = (torch.arange(x.size(-1)) % 3 != 0).to(x.dtype) * 1.5
        return x * kept if self.training and self.p else x


OUTPUTS = [{"output": output, "dropout": p, "attention": attention}
           for output in ("linear", "readout", "tied") for p in (0.0, 0.3)
           for attention in ("bahdanau", "luong", "luong-dot", "none")]  # fmt: skip


@pytest.mark.parametrize("changes", OUTPUTS, ids=str)
def test_dropout_and_readout(changes, pairs):  # noqa: F811
    torch.manual_seed(0)
    sizes = {"attn_size": 4} if changes["attention"] == "bahdanau" else {}
    settings = Settings.of(emb_size=6, hidden_size=5, **sizes, **changes).model
    model, given = settings.build(30, 20).train(), inputs(pairs)
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.__class__ = EveryThird
    expected = values_and_gradients(model, model, given)
    module = settings.in_training(model)
    results = values_and_gradients(module, model, given)
    assert module.agrees and model.training
    assert largest_difference(results, expected) < 1e-12


@pytest.mark.parametrize("output", ["readout", "tied"])
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_a_large_vocabulary_without_its_logits(output, smoothing, pairs, monkeypatch):  # noqa: F811
    """Loss and gradients as from the logits, in pieces of three words."""
    monkeypatch.setattr(LargeOutput, "ROWS", 3)
    settings = Settings.of(emb_size=6, hidden_size=5, attn_size=4, output=output).model
    model, batch = settings.build(30, 20), collate(pairs)
    module = Fused(model)
    logits, _ = model(batch.src, batch.src_lens, batch.trg_in)
    expected = smoothed_cross_entropy(logits, batch.trg_out, smoothing)
    grads = torch.autograd.grad(3 * expected, [*model.parameters()])
    loss = module.loss(batch, smoothing)
    results = torch.autograd.grad(3 * loss, [*model.parameters()])
    assert largest_difference([loss, *results], [expected, *grads]) < 1e-12


def test_a_small_vocabulary_has_logits(pairs):  # noqa: F811
    assert Fused(build(PLAIN)).loss(collate(pairs), 0.1) is None


def test_mixed_precision_is_near_the_full_one(pairs):  # noqa: F811
    settings = Settings.of(emb_size=32, hidden_size=32, attn_size=32, output="tied").model
    model, batch = settings.build(30, 20).float(), collate(pairs)
    expected = Fused(model).loss(batch, 0.1)
    with torch.autocast("cpu"):
        loss = Fused(model).loss(batch, 0.1)
    assert loss.dtype == torch.float32
    assert 0 < abs(loss - expected) < 0.02 * expected
