"""What all models have in common, and the new ones against plain loops and torch's own layers."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from helpers.build import build_model
from helpers.config import Config
from helpers.data import BOS, EOS, PAD, collate
from helpers.device import set_up
from helpers.location import frame
from helpers.model import LocationAttention, LuongAttention
from helpers.tests.tiny import largest_difference
from helpers.transformer import DecoderLayer, PositionalEncoding

KINDS = Config.__dataclass_fields__["model"].metadata["options"]
SRC_SIZE, TRG_SIZE = 30, 20


def build(kind, **switches):
    set_up(seed=0)
    config = Config(model=kind, emb_size=8, hidden_size=12, attn_size=10, heads=2, layers=3)
    model = build_model(config, SRC_SIZE, TRG_SIZE, **switches)
    for weight in model.parameters():  # far from uniform attention, so that a leak would show
        weight.data.mul_(2)
    return model


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
    if kind == "location":  # the rest lies on the sentinels
        assert totals.min() > 0 and totals.max() < 1
    else:
        assert (totals - (0.0 if kind == "lstm" else 1.0)).abs().max() < 1e-12


def test_neither_batch_nor_padding_matters(model, pairs):
    src, src_lens, trg_in = inputs(pairs)
    together, together_weights = model(src, src_lens, trg_in)
    for i, pair in enumerate(pairs):
        src, src_lens, trg_in = inputs([pair])
        steps, length = trg_in.size(1), src.size(1)
        logits, weights = model(src, src_lens, trg_in)
        padded, padded_weights = model(F.pad(src, (0, 50), value=PAD), src_lens, trg_in)
        assert (logits[0] - together[i, :steps]).abs().max() < 1e-12
        assert (logits - padded).abs().max() < 1e-12
        assert (weights[0] - together_weights[i, :steps, :length]).abs().max() < 1e-12
        assert (weights - padded_weights[..., :length]).abs().max() < 1e-12
        assert together_weights[i, :, length:].eq(0).all()
        assert padded_weights[..., length:].eq(0).all()


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


def test_the_names_and_sizes_of_the_models():
    assert build("luong").decoder.attention.general is not None
    assert build("luong-dot").decoder.attention.general is None
    transformer = build("transformer")
    assert len(transformer.layers) == transformer.encoder.num_layers == 3
    for layer in [*transformer.layers, *transformer.encoder.layers]:
        assert layer.self_attn.num_heads == 2 and layer.linear1.out_features == 12
        assert layer.norm_first


def test_the_positional_encoding_is_the_papers():
    """PE(pos, 2i) = sin(pos / 10000^(2i / E)), PE(pos, 2i + 1) the cosine of the same."""
    set_up(seed=0)
    size, emb = 6, torch.randn(2, 40, 6)
    encoded = PositionalEncoding(size)(emb) - emb
    for pos in range(40):
        for i in range(size // 2):
            angle = pos / 10_000 ** (2 * i / size)
            for row in encoded[:, pos].tolist():
                assert row[2 * i] == pytest.approx(math.sin(angle), abs=1e-12)
                assert row[2 * i + 1] == pytest.approx(math.cos(angle), abs=1e-12)
    with pytest.raises(ValueError, match="even emb_size, not 7"):
        PositionalEncoding(7)


def test_the_decoder_layer_is_torchs_own():
    set_up(seed=0)
    layer = DecoderLayer(8, 2, 12, dropout=0.0, batch_first=True, norm_first=True)
    for weight in layer.parameters():  # biases and norms, too, are not what they start with
        weight.data.add_(0.5 * torch.randn_like(weight))
    trg, memory = torch.randn(3, 5, 8), torch.randn(3, 6, 8)
    mask = torch.arange(6) < torch.tensor([[6], [1], [4]])
    causal = torch.ones(5, 5, dtype=torch.bool).triu(diagonal=1)
    found, weights = layer(trg, causal, memory, mask)
    masks = {"tgt_mask": causal, "memory_key_padding_mask": ~mask}
    expected = nn.TransformerDecoderLayer.forward(layer, trg, memory, **masks)
    assert (found - expected).abs().max() < 1e-12
    attended = layer.self_attn(*3 * [layer.norm1(trg)], attn_mask=causal)[0]
    query, key, _ = layer.multihead_attn.in_proj_weight.split(8)
    query_bias, key_bias, _ = layer.multihead_attn.in_proj_bias.split(8)
    queries = F.linear(layer.norm2(trg + attended), query, query_bias).unflatten(-1, (2, 4))
    keys = F.linear(memory, key, key_bias).unflatten(-1, (2, 4))
    energy = torch.einsum("bthd,bshd->bhts", queries, keys) / math.sqrt(4)
    energy = energy.masked_fill(~mask[:, None, None], -torch.inf)
    assert (weights - energy.softmax(dim=-1).mean(dim=1)).abs().max() < 1e-12


def test_the_weights_of_the_transformer_are_those_of_its_last_layer(pairs):
    model, seen = build("transformer"), []
    model.layers[-1].register_forward_hook(lambda *args: seen.append(args[-1][1]))
    assert model(*inputs(pairs))[1].equal(*seen)


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


def lstm_cell(lstm, suffix):
    """The step of one direction of a layer."""
    cell = nn.LSTMCell(lstm.input_size, lstm.hidden_size)
    names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    cell.load_state_dict({name: getattr(lstm, f"{name}_{suffix}") for name in names})
    return cell


@torch.no_grad()
def test_the_lstm_against_single_steps(pairs):
    model = build("lstm")
    logits, _ = model(*inputs(pairs))
    for i, pair in enumerate(pairs):
        src, _, trg_in = inputs([pair])
        emb, finals = model.src_embedding(src[0]), []
        for suffix, order in (("l0", emb), ("l0_reverse", emb.flip(0))):
            cell, state = lstm_cell(model.encoder, suffix), None
            for word in order:
                state = cell(word.unsqueeze(0), state)
            finals.append(state)
        hidden, memory = (
            model.bridge(torch.cat(both, dim=-1)) for both in zip(*finals, strict=True)
        )
        state, cell = (hidden.tanh(), memory), lstm_cell(model.decoder, "l0")
        expected = []
        for word in model.trg_embedding(trg_in[0]):
            state = cell(word.unsqueeze(0), state)
            expected.append(model.output(state[0])[0])
        assert largest_difference(logits[i, : len(expected)], expected) < 1e-12


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


def test_a_source_is_framed_by_sentinels():
    framed, lens = frame(torch.tensor([[5, 6, 7], [8, PAD, PAD]]), torch.tensor([3, 1]))
    assert framed.tolist() == [[BOS, 5, 6, 7, EOS], [BOS, 8, EOS, PAD, PAD]]
    assert lens.tolist() == [5, 3]


def test_dropout_is_at_work_in_training_alone(pairs):
    set_up(seed=0)
    model = build_model(Config(model="location", dropout=0.5, emb_size=8, hidden_size=8), SRC_SIZE)
    given = inputs(pairs)
    assert not model(*given)[0].equal(model(*given)[0])
    model.eval()
    assert model(*given)[0].equal(model(*given)[0])


def test_a_transformer_that_is_used_says_what_one_in_training_says():
    """Without gradients and in `eval`, torch takes another path through its encoder."""
    config = Config(model="transformer", emb_size=8, hidden_size=16)
    set_up(1)
    model = build_model(config, 9)
    src, lens = torch.tensor([[4, 5, 6, 7], [8, 4, PAD, PAD]]), torch.tensor([4, 2])
    trg_in = torch.tensor([[BOS, 5, 6], [BOS, 7, 8]])
    logits, weights = model(src, lens, trg_in)
    with torch.no_grad():
        used, used_weights = model.eval()(src, lens, trg_in)
    torch.testing.assert_close(used, logits.detach(), atol=1e-12, rtol=0)
    torch.testing.assert_close(used_weights, weights.detach(), atol=1e-12, rtol=0)
