"""The model of the assignment: independence of padding and batch, causality, shapes, its parts by
hand, and the parameters that it starts with.
"""

import math
from unittest import mock

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from helpers.data import PAD, collate
from helpers.decoding import decode
from helpers.model import AdditiveAttention, Encoder, build_model, init_parameters, look_up
from helpers.runs.settings import Settings
from helpers.tests.test_models import KINDS, shaken
from helpers.training import set_up

VOCAB_SIZE = 30
SIZES = {"emb_size": 8, "hidden_size": 16, "attn_size": 12}


@pytest.fixture
def model():
    set_up(seed=0)
    return shaken(build_model(VOCAB_SIZE, VOCAB_SIZE, **SIZES), 3)


@pytest.fixture
def pairs():
    generator = torch.Generator().manual_seed(0)
    lengths = [1, 12, 3, 7, 7, 2]
    sources = [torch.randint(3, VOCAB_SIZE, (n,), generator=generator).tolist() for n in lengths]
    return [(src, src[::-1]) for src in sources]


def test_shapes(model, pairs):
    batch = collate(pairs)
    logits, weights = model(batch.src, batch.src_lens, batch.trg_in)
    assert logits.shape == (6, 13, VOCAB_SIZE)
    assert weights.shape == (6, 13, 12)


def test_logits_do_not_depend_on_batch_or_padding(model, pairs):
    batch = collate(pairs)
    together, together_weights = model(batch.src, batch.src_lens, batch.trg_in)
    for i, pair in enumerate(pairs):
        alone = collate([pair])
        steps, length = alone.trg_in.size(1), alone.src.size(1)
        logits, weights = model(alone.src, alone.src_lens, alone.trg_in)
        padded = F.pad(alone.src, (0, 40), value=PAD)
        padded_logits, padded_weights = model(padded, alone.src_lens, alone.trg_in)
        assert (logits[0] - together[i, :steps]).abs().max() <= 1e-12
        assert (logits - padded_logits).abs().max() <= 1e-12
        assert (weights[0] - together_weights[i, :steps, :length]).abs().max() <= 1e-12
        assert padded_weights[..., length:].eq(0).all()


def test_weight_on_padding_is_exactly_zero_and_rows_sum_to_one(model, pairs):
    batch = collate(pairs)
    _, weights = model(batch.src, batch.src_lens, batch.trg_in)
    padding = (batch.src == PAD).unsqueeze(1).expand_as(weights)
    assert padding.any() and weights[padding].eq(0).all()
    torch.testing.assert_close(weights.sum(-1), torch.ones(weights.shape[:2]))


class UnpackedEncoder(Encoder):
    """Reads the padding, too."""

    def forward(self, src, src_lens):
        enc_outputs, final = self.gru(self.embedding(src))
        return enc_outputs, torch.tanh(self.bridge(torch.cat([*final], dim=-1)))


class UnmaskedAttention(AdditiveAttention):
    """Looks at the padding, too."""

    def forward(self, query, keys, values, mask):
        return super().forward(query, keys, values, torch.ones_like(mask))


@pytest.mark.parametrize("fault", [UnpackedEncoder, UnmaskedAttention])
def test_the_faults_of_the_padding_lab_do_break_the_invariance(model, pairs, fault):
    part = model.encoder if fault is UnpackedEncoder else model.decoder.attention
    part.__class__ = fault
    with pytest.raises(AssertionError):
        test_logits_do_not_depend_on_batch_or_padding(model, pairs)
    batch, alone = collate(pairs), collate(pairs[:1])
    together, _ = model(batch.src, batch.src_lens, batch.trg_in)
    logits, _ = model(alone.src, alone.src_lens, alone.trg_in)
    assert (logits[0] - together[0, : logits.size(1)]).abs().max() > 1e-6


def test_words_do_not_depend_on_the_batch(model, pairs):
    sources = [src for src, _ in pairs]
    one_by_one = [answer.ids for answer in decode(model, sources, batch_size=1)]
    assert [answer.ids for answer in decode(model, sources, batch_size=100)] == one_by_one


def test_causality(model, pairs):
    batch = collate(pairs)
    logits, _ = model(batch.src, batch.src_lens, batch.trg_in)
    for t in (1, 5, 12):
        changed = batch.trg_in.clone()
        changed[:, t:] = 4
        other, _ = model(batch.src, batch.src_lens, changed)
        assert other[:, :t].equal(logits[:, :t])
        assert not other[:, t:].equal(logits[:, t:])


def test_every_source_word_reaches_every_output_step(model, pairs):
    batch = collate(pairs[1:2])
    logits, _ = model(batch.src, batch.src_lens, batch.trg_in)
    for j in range(12):
        src = batch.src.clone()
        src[0, j] = 3 + (src[0, j] - 2) % (VOCAB_SIZE - 3)
        other, _ = model(src, batch.src_lens, batch.trg_in)
        assert (other != logits).any(dim=-1).all()


def test_attention_by_hand():
    """Sizes of 1 and weights of 1: the energies are tanh(query + key), here tanh(1), tanh(2)."""
    set_up(seed=0)
    attention = AdditiveAttention(1, 1, 1)
    for weight in attention.parameters():
        weight.data.fill_(1)
    values = torch.tensor([[[-1.0], [0.0], [9.0]]])
    mask = torch.tensor([[True, True, False]])
    query = torch.tensor([[2.0]])
    context, weights = attention(query, attention.project_keys(values), values, mask)
    first, second = (math.exp(math.tanh(x)) for x in (1, 2))
    expected = torch.tensor([[first, second, 0.0]]) / (first + second)
    torch.testing.assert_close(weights, expected)
    torch.testing.assert_close(context, torch.tensor([[-first / (first + second)]]))


def test_decoder_step_by_hand(model, pairs):
    """Look back with the old state, read word and context, predict from new state and context."""
    batch = collate(pairs)
    values, state, mask = model.encode(batch.src, batch.src_lens)
    decoder = model.decoder
    keys = decoder.attention.project_keys(values)
    emb = decoder.embedding(batch.trg_in[:, 0])
    context, weights = decoder.attention(state, keys, values, mask)
    new_state = decoder.cell(torch.cat([emb, context], dim=-1), state)
    features = torch.cat([new_state, context], dim=-1)
    for result, expected in zip(
        decoder.step(emb, state, keys, values, mask), (features, new_state, weights), strict=True
    ):
        torch.testing.assert_close(result, expected)
    other, _ = decoder.attention(state + 1, keys, values, mask)
    assert not torch.allclose(other, context)


def test_encoder_state_uses_both_directions(model, pairs):
    batch = collate(pairs[1:2])
    enc_outputs, state = model.encoder(batch.src, batch.src_lens)
    hidden = model.encoder.gru.hidden_size
    last = torch.cat([enc_outputs[:, -1, :hidden], enc_outputs[:, 0, hidden:]], dim=-1)
    torch.testing.assert_close(state, torch.tanh(model.encoder.bridge(last)))


def test_the_encoder_reads_each_direction_by_itself(model, pairs):
    """One word after the other, in both directions, against the whole sentence at once."""
    batch, hidden = collate(pairs[1:2]), model.encoder.gru.hidden_size
    enc_outputs, _ = model.encoder(batch.src, batch.src_lens)
    emb = model.encoder.embedding(batch.src[0])
    for suffix, order, columns in (("", 1, slice(hidden)), ("_reverse", -1, slice(hidden, None))):
        cell = nn.GRUCell(model.encoder.gru.input_size, hidden)
        names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        cell.load_state_dict({n: getattr(model.encoder.gru, f"{n}_l0{suffix}") for n in names})
        state, places = torch.zeros(1, hidden), [*range(len(emb))][::order]
        for i in places:
            state = cell(emb[i : i + 1], state)
            assert (enc_outputs[0, i, columns] - state[0]).abs().max() < 1e-12


def test_outputs_on_padding_are_zero(model, pairs):
    batch = collate(pairs)
    enc_outputs, _, mask = model.encode(batch.src, batch.src_lens)
    assert mask.equal(batch.src != PAD) and not mask.all()
    assert enc_outputs[~mask].eq(0).all() and enc_outputs[mask].abs().amax(dim=-1).min() > 0


def test_from_scores_to_weights_and_context():
    energy = torch.tensor([[1.0, 2.0, 50.0], [0.0, 0.0, 0.0]])
    values = torch.arange(12.0).view(2, 3, 2)
    mask = torch.tensor([[True, True, False], [True, True, True]])
    context, weights = look_up(energy, values, mask)
    first, second = 1 / (1 + math.e), math.e / (1 + math.e)
    expected = torch.tensor([[first, second, 0.0], [1 / 3, 1 / 3, 1 / 3]])
    torch.testing.assert_close(weights, expected)
    assert weights[0, 2] == 0
    torch.testing.assert_close(context[0], torch.tensor([2 * second, 1 + 2 * second]))
    torch.testing.assert_close(context[1], values[1].mean(dim=0))


def test_a_source_without_a_token_is_refused(model):
    with pytest.raises(ValueError, match="without a token"):
        decode(model, [[4], []])
    with pytest.raises(RuntimeError):
        model.encoder(torch.tensor([[4], [PAD]]), torch.tensor([1, 0]))


@pytest.fixture(scope="module")
def wide():
    set_up(seed=0)
    return build_model(200, 150, emb_size=40, hidden_size=48, attn_size=36)


def assert_glorot(matrix, fan_in, fan_out):
    """Uniform between the bounds of Glorot and Bengio 2010, equation 16."""
    bound = math.sqrt(6 / (fan_in + fan_out))
    assert matrix.shape == (fan_out, fan_in)
    assert matrix.abs().max() <= bound
    if matrix.numel() >= 500:
        assert matrix.max() > 0.96 * bound and matrix.min() < -0.96 * bound
        assert 0.9 < matrix.std() / (bound / math.sqrt(3)) < 1.1


def test_each_gate_begins_with_glorots_bounds(wide):
    """All matrices of the model, by name: (number of gates, fan in, fan out)."""
    expected = {
        "encoder.gru.weight_ih_l0": (3, 40, 48),
        "encoder.gru.weight_hh_l0": (3, 48, 48),
        "encoder.gru.weight_ih_l0_reverse": (3, 40, 48),
        "encoder.gru.weight_hh_l0_reverse": (3, 48, 48),
        "encoder.bridge.weight": (1, 96, 48),
        "decoder.attention.project_query.weight": (1, 48, 36),
        "decoder.attention.project_keys.weight": (1, 96, 36),
        "decoder.attention.score.weight": (1, 36, 1),
        "decoder.cell.weight_ih": (3, 136, 48),
        "decoder.cell.weight_hh": (3, 48, 48),
        "decoder.output.weight": (1, 144, 150),
    }
    params = dict(wide.named_parameters())
    embeddings = {"encoder.embedding.weight", "decoder.embedding.weight"}
    assert {name for name, param in params.items() if param.dim() == 2} == {*expected} | embeddings
    for name, (gates, fan_in, fan_out) in expected.items():
        chunks = params[name].detach().chunk(gates)
        for gate in chunks:
            assert_glorot(gate, fan_in, fan_out)
        for one, other in zip(chunks, chunks[1:], strict=False):
            assert not one.equal(other)


def test_embeddings_begin_small_and_biases_at_zero(wide):
    for part in (wide.encoder, wide.decoder):
        weight = part.embedding.weight.detach()
        assert 0.097 < weight.std() < 0.103 and weight.mean().abs() < 0.005
        assert (weight.abs() > 0.2).double().mean() == pytest.approx(0.0455, abs=0.01)  # normal
    biases = [param for name, param in wide.named_parameters() if "bias" in name]
    assert len(biases) == 8 and all(param.eq(0).all() for param in biases)


def test_the_first_parameters_are_those_of_the_seed():
    def build(seed):
        set_up(seed)
        return torch.cat([p.detach().flatten() for p in build_model(9, 9, **SIZES).parameters()])

    assert build(1).equal(build(1)) and not build(1).equal(build(2))
    assert build(1).dtype == torch.float64


def test_parameters_of_other_kinds_stay():
    """A scale of a norm is no matrix and no bias. The model itself is returned."""
    parts = nn.Sequential(nn.LayerNorm(5), nn.Linear(5, 4), nn.Conv1d(2, 3, 1))
    with torch.no_grad():
        parts[0].weight.fill_(3), parts[0].bias.fill_(3), parts[2].weight.fill_(3)
    assert init_parameters(parts) is parts
    assert parts[0].weight.eq(3).all() and parts[2].weight.eq(3).all()
    assert all(part.bias.eq(0).all() for part in parts)
    assert_glorot(parts[1].weight.detach(), 5, 4)


@pytest.mark.parametrize("kind", KINDS)
def test_every_model_begins_in_this_way(kind):
    """By the kinds of its modules: no list of names is needed for what nobody has thought of."""
    set_up(seed=0)
    group = Settings.of(**{"emb_size": 40, "hidden_size": 48} | KINDS[kind]).model
    model = group.build(60, 50)
    gates = {nn.GRU: 3, nn.GRUCell: 3, nn.LSTM: 4, nn.LSTMCell: 4}
    for module in model.modules():
        for name, param in module.named_parameters(recurse=False):
            param = param.detach()
            if type(module) is nn.Embedding:
                assert 0.09 < param.std() < 0.11
            elif "bias" in name:
                assert param.eq(0).all()
            elif param.dim() == 2:
                for gate in param.chunk(gates.get(type(module), 1)):
                    assert_glorot(gate, *reversed(gate.shape))
            else:
                assert type(module) is nn.LayerNorm and param.eq(1).all()


def test_the_registry_builds_the_assignment_with_the_function_that_one_reads():
    with mock.patch("helpers.model.build_model") as build:
        built = Settings.of(**SIZES).model.build(9, 8)
    build.assert_called_once_with(9, 8, *SIZES.values())
    assert built is build.return_value
