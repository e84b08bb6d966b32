"""The Transformer against the paper's formulas and torch's own layers."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from helpers.data import BOS, PAD
from helpers.models.transformer import DecoderLayer, PositionalEncoding
from helpers.runs.settings import Settings
from helpers.tests.test_models import build, inputs, pairs  # noqa: F401  (a fixture)
from helpers.training import set_up


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
    result, weights = layer(trg, causal, memory, mask)
    masks = {"tgt_mask": causal, "memory_key_padding_mask": ~mask}
    expected = nn.TransformerDecoderLayer.forward(layer, trg, memory, **masks)
    assert (result - expected).abs().max() < 1e-12
    attended = layer.self_attn(*3 * [layer.norm1(trg)], attn_mask=causal)[0]
    query, key, _ = layer.multihead_attn.in_proj_weight.split(8)
    query_bias, key_bias, _ = layer.multihead_attn.in_proj_bias.split(8)
    queries = F.linear(layer.norm2(trg + attended), query, query_bias).unflatten(-1, (2, 4))
    keys = F.linear(memory, key, key_bias).unflatten(-1, (2, 4))
    energy = torch.einsum("bthd,bshd->bhts", queries, keys) / math.sqrt(4)
    energy = energy.masked_fill(~mask[:, None, None], -torch.inf)
    assert (weights - energy.softmax(dim=-1).mean(dim=1)).abs().max() < 1e-12


def test_the_weights_of_the_transformer_are_those_of_its_last_layer(pairs):  # noqa: F811
    model, seen = build("transformer"), []
    model.layers[-1].register_forward_hook(lambda *args: seen.append(args[-1][1]))
    assert model(*inputs(pairs))[1].equal(*seen)


def test_a_transformer_that_is_used_says_what_one_in_training_says():
    """Without gradients and in `eval`, torch takes another path through its encoder."""
    set_up(1)
    model = Settings.of(model="transformer", emb_size=8, hidden_size=16).model.build(9, 9)
    src, lens = torch.tensor([[4, 5, 6, 7], [8, 4, PAD, PAD]]), torch.tensor([4, 2])
    trg_in = torch.tensor([[BOS, 5, 6], [BOS, 7, 8]])
    logits, weights = model(src, lens, trg_in)
    with torch.no_grad():
        used, used_weights = model.eval()(src, lens, trg_in)
    torch.testing.assert_close(used, logits.detach(), atol=1e-12, rtol=0)
    torch.testing.assert_close(used_weights, weights.detach(), atol=1e-12, rtol=0)


@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_the_encoder_is_torchs_own_on_embeddings_with_their_places(dropout):
    model = build("transformer", dropout=dropout).eval()
    src, lens = torch.tensor([[4, 5, 6, 7], [8, 4, PAD, PAD]]), torch.tensor([4, 2])
    memory, mask = model.encode(src, lens)
    assert mask.tolist() == [[True] * 4, [True, True, False, False]]
    emb = model.src_embedding(src)
    emb = emb + PositionalEncoding(8)(torch.zeros_like(emb))
    for layer in model.encoder.layers:
        query = layer.norm1(emb)
        emb = emb + layer.self_attn(query, query, query, key_padding_mask=~mask)[0]
        emb = emb + layer.linear2(layer.linear1(layer.norm2(emb)).relu())
    assert (memory - model.encoder.norm(emb))[mask].abs().max() < 1e-12


def test_dropout_reaches_every_part_of_the_transformer():
    """Both embeddings, and in all layers attention, feed-forward and their results."""
    parts = [module for module in build("transformer", dropout=0.3).modules()]
    rates = [part.p for part in parts if isinstance(part, nn.Dropout)]
    rates += [part.dropout for part in parts if isinstance(part, nn.MultiheadAttention)]
    assert rates == [0.3] * len(rates) and len(rates) == 1 + 3 * (3 + 1) + 3 * (4 + 2)


def test_dropout_acts_on_both_embeddings_with_their_places(pairs):  # noqa: F811
    model, read = build("transformer", dropout=0.5), []
    model.dropout.register_forward_hook(lambda *args: read.append(args[1][0]))
    src, src_lens, trg_in = inputs(pairs)
    model(src, src_lens, trg_in)
    embs = model.src_embedding(src), model.trg_embedding(trg_in)
    for some, emb in zip(read, embs, strict=True):
        assert (some - model.position(emb)).abs().max() < 1e-12
