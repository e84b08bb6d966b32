"""The model: independence of padding and batch, causality, shapes, agreement with torch."""

import math

import pytest
import torch
import torch.nn.functional as F

from helpers.build import build_model
from helpers.config import Config
from helpers.data import PAD, collate
from helpers.decoding import decode
from helpers.device import set_up
from helpers.model import AdditiveAttention

VOCAB_SIZE = 30
CONFIG = Config(emb_size=8, hidden_size=16, attn_size=12)


@pytest.fixture
def model():
    set_up(seed=0)
    model = build_model(CONFIG, VOCAB_SIZE, VOCAB_SIZE)
    for weight in model.parameters():  # far from uniform attention, so that a leak would show
        weight.data.mul_(3)
    return model


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


@pytest.mark.parametrize("switched_off", ["pack", "mask"])
def test_the_switches_of_the_padding_lab_do_break_the_invariance(pairs, switched_off):
    set_up(seed=0)
    model = build_model(CONFIG, VOCAB_SIZE, VOCAB_SIZE, **{switched_off: False})
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
    hidden = CONFIG.hidden_size
    last = torch.cat([enc_outputs[:, -1, :hidden], enc_outputs[:, 0, hidden:]], dim=-1)
    torch.testing.assert_close(state, torch.tanh(model.encoder.bridge(last)))


def test_a_source_without_a_token_is_refused(model):
    with pytest.raises(ValueError, match="without a token"):
        decode(model, [[4], []])
