"""What all models have in common: every cell with every attention, in one layer or two, and the
Transformer.
"""

import warnings

import pytest
import torch
import torch.nn.functional as F

from helpers.data import PAD, collate
from helpers.models import MODELS
from helpers.models.location import LocationSeq2Seq
from helpers.models.recurrent import ATTENTIONS, CELLS, RecurrentSeq2Seq
from helpers.models.transformer import Transformer
from helpers.runs.settings import Settings
from helpers.training import set_up

KINDS = {  # by what one may call them: what has to be set to have one
    f"{cell} {attention} {layers}": {"cell": cell, "attention": attention, "layers": layers}
    for cell in CELLS
    for attention in ATTENTIONS
    for layers in (1, 2)
} | {"transformer": {"model": "transformer", "heads": 2, "layers": 3}}
PLAIN = "gru bahdanau 1"  # the model of the assignment
SRC_SIZE, TRG_SIZE = 30, 20


def shaken(model, factor=2):
    """The model, far from uniform attention, so that a leak would show, and with biases that are
    not 0, so that they count.
    """
    torch.manual_seed(0)
    with torch.no_grad():
        for param in model.parameters():
            param.mul_(factor).add_(0.2 * torch.randn_like(param))
    return model


def small(kind, **changes):
    """The settings of a small model."""
    sizes = {"emb_size": 8, "hidden_size": 12, "dropout": 0.0}
    if KINDS[kind].get("attention") in ("bahdanau", "location"):
        sizes["attn_size"] = 10
    return Settings.of(**sizes | KINDS[kind] | changes).model


def build(kind, src_size=SRC_SIZE, trg_size=TRG_SIZE, **changes):
    set_up(seed=0)
    return shaken(small(kind, **changes).build(src_size, trg_size))


@pytest.fixture(params=KINDS)
def kind(request):
    return request.param


@pytest.fixture
def model(kind):
    return build(kind)


@pytest.fixture(scope="module")
def pairs():
    generator = torch.Generator().manual_seed(0)

    def draw(size, n):
        return torch.randint(3, size, (n,), generator=generator).tolist()

    return [(draw(SRC_SIZE, n), draw(TRG_SIZE, m)) for n, m in [(1, 8), (9, 5), (3, 1), (6, 7)]]


def inputs(pairs):
    batch = collate(pairs)
    return batch.src, batch.src_lens, batch.trg_in


def test_shapes_and_weights_that_sum_to_one_or_zero(kind, model, pairs):
    src, src_lens, trg_in = inputs(pairs)
    assert src.max() >= TRG_SIZE, "so that the vocabularies cannot be confused"
    logits, weights = model(src, src_lens, trg_in)
    assert logits.shape == (4, 9, TRG_SIZE) and weights.shape == (4, 9, 9)
    assert logits.dtype == weights.dtype == torch.float64
    assert weights.min() >= 0
    totals = weights.sum(dim=-1)
    if "location" in kind:  # the rest lies on the sentinels
        assert totals.min() > 0 and totals.max() < 1
    else:
        assert (totals - (0.0 if "none" in kind else 1.0)).abs().max() < 1e-12
    padding = (src == PAD).unsqueeze(1).expand_as(weights)
    assert padding.any() and weights[padding].eq(0).all()
    assert "none" in kind or weights[~padding].min() > 0


def test_neither_batch_nor_padding_matters(model, pairs):
    src, src_lens, trg_in = inputs(pairs)
    together, together_weights = model(src, src_lens, trg_in)
    for i, pair in enumerate(pairs):
        src, src_lens, trg_in = inputs([pair])
        steps, length = trg_in.size(1), src.size(1)
        logits, weights = model(src, src_lens, trg_in)
        padding = torch.randint(PAD, SRC_SIZE, (1, 50))  # by its place, not by its id
        padded, padded_weights = model(torch.cat([src, padding], dim=1), src_lens, trg_in)
        assert (logits[0] - together[i, :steps]).abs().max() < 1e-12
        assert (logits - padded).abs().max() < 1e-12
        assert (weights[0] - together_weights[i, :steps, :length]).abs().max() < 1e-12
        assert (weights - padded_weights[..., :length]).abs().max() < 1e-12
        assert together_weights[i, :, length:].eq(0).all()
        assert padded_weights[..., length:].eq(0).all()
        extra, _ = model(F.pad(src, (0, 50), value=PAD), src_lens, trg_in)
        assert (logits - extra).abs().max() < 1e-12


def test_word_by_word_gives_what_forward_gives(model, pairs):
    src, src_lens, trg_in = inputs(pairs)
    logits, weights = model(src, src_lens, trg_in)
    state = model.start(src, src_lens)
    for t in range(trg_in.size(1)):
        next_logits, next_weights, state = model.next_word(trg_in[:, t], state)
        assert (next_logits - logits[:, t]).abs().max() < 1e-12
        assert (next_weights - weights[:, t]).abs().max() < 1e-12


def test_the_state_has_a_row_for_each_sentence(model, pairs):
    """A search may reorder the sentences in the middle."""
    src, src_lens, trg_in = inputs(pairs)
    logits, weights = model(src, src_lens, trg_in)
    order = torch.tensor([2, 0, 0, 3])
    _, _, state = model.next_word(trg_in[:, 0], model.start(src, src_lens))
    state = tuple(rows[order] for rows in state)
    next_logits, next_weights, _ = model.next_word(trg_in[order, 1], state)
    assert (next_logits - logits[order, 1]).abs().max() < 1e-12
    assert (next_weights - weights[order, 1]).abs().max() < 1e-12


def test_a_word_changes_the_logits_from_its_place_on(model, pairs):
    src, src_lens, trg_in = inputs(pairs)
    logits, _ = model(src, src_lens, trg_in)
    for t in (0, 1, 4, 8):
        changed = trg_in.clone()
        changed[:, t] = (trg_in[:, t] + 1) % TRG_SIZE
        difference = (model(src, src_lens, changed)[0] - logits).abs().amax(dim=-1)  # (B, T)
        assert (difference[:, :t] < 1e-12).all()
        assert (difference[:, t:] > 1e-9).all()


def test_every_source_word_reaches_every_step(model, pairs):
    src, src_lens, trg_in = inputs(pairs[1:2])
    logits, _ = model(src, src_lens, trg_in)
    for j in range(src.size(1)):
        changed = src.clone()
        changed[0, j] = (src[0, j] + 1) % SRC_SIZE
        difference = (model(changed, src_lens, trg_in)[0] - logits).abs().amax(dim=-1)
        assert (difference > 1e-9).all()


def test_the_gradient_reaches_every_parameter(model, pairs):
    logits, _ = model(*inputs(pairs))
    logits.square().sum().backward()
    for name, weight in model.named_parameters():
        assert weight.grad is not None and weight.grad.abs().max() > 1e-9, name


def test_what_a_name_stands_for():
    """The class, its cells, its layers."""
    for kind, flags in KINDS.items():
        if kind in (PLAIN, "transformer"):
            continue
        model = build(kind)
        location = flags["attention"] == "location"
        assert type(model) is (LocationSeq2Seq if location else RecurrentSeq2Seq)
        assert [type(cell) for cell in model.decoder.cells] == flags["layers"] * [
            torch.nn.LSTMCell if flags["cell"] == "lstm" else torch.nn.GRUCell
        ]
        assert type(model.encoder.rnn).__name__.lower() == flags["cell"]
        assert model.encoder.rnn.num_layers == flags["layers"]
        assert model.copies == model.any_length == small(kind).copies == location
    assert build("gru luong 1").decoder.attention.general is not None
    assert build("gru luong-dot 1").decoder.attention.general is None
    transformer = build("transformer")
    assert type(transformer) is Transformer and not transformer.copies | transformer.any_length
    assert len(transformer.layers) == transformer.encoder.num_layers == 3
    for layer in [*transformer.layers, *transformer.encoder.layers]:
        assert layer.self_attn.num_heads == 2 and layer.linear1.out_features == 12
        assert layer.norm_first
    assert [*MODELS] == ["recurrent", "transformer"]


def test_dropout_is_at_work_in_training_alone(kind, pairs):
    """In training twice is not the same; in use it is, and the same as without any dropout."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # torch warns of dropout between layers that are not there
        model, given = build(kind, dropout=0.5), inputs(pairs)
    sizes = {"emb_size": 8, "hidden_size": 12, "attn_size": 10}
    # without dropout, the model of the assignment is of another class
    plain = RecurrentSeq2Seq(SRC_SIZE, TRG_SIZE, **sizes) if kind == PLAIN else build(kind)
    plain.load_state_dict(model.state_dict())
    assert not model(*given)[0].equal(model(*given)[0])
    model.eval()
    with torch.no_grad():
        logits, weights = model(*given)
        expected, expected_weights = plain(*given)
    assert model(*given)[0].sub(logits).abs().max() < 1e-12
    assert (logits - expected).abs().max() < 1e-12
    assert (weights - expected_weights).abs().max() < 1e-12


def test_in_training_something_faster_may_be_called(kind):
    model = build(kind)
    called = small(kind).in_training(model)
    fast = kind.startswith("gru") and kind.endswith("1") and "location" not in kind
    assert called.model is model if fast else called is model
