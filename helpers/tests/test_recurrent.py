"""Recurrent models of all kinds: against single steps, against the model of the assignment, and
where dropout acts.
"""

from itertools import product

import pytest
import torch
from torch.nn.utils.rnn import pad_packed_sequence

from helpers.data import BOS, EOS, PAD, collate
from helpers.model import build_model
from helpers.models import recurrent
from helpers.models.location import frame
from helpers.models.recurrent import ATTENTIONS, CELLS, RecurrentEncoder, RecurrentSeq2Seq
from helpers.tests.test_models import (
    KINDS,
    SRC_SIZE,
    TRG_SIZE,
    build,
    inputs,
    pairs,  # noqa: F401  (a fixture)
    shaken,
)
from helpers.tests.tiny import largest_difference
from helpers.training import set_up

RECURRENT = [kind for kind in KINDS if kind != "transformer"]


def general(cell="gru", attention="bahdanau", layers=1, **changes):
    """A model of the general class, also of the kind of the assignment."""
    set_up(seed=0)
    sizes = {"emb_size": 8, "hidden_size": 12, "attn_size": 10} | changes
    return shaken(RecurrentSeq2Seq(SRC_SIZE, TRG_SIZE, cell=cell, attention=attention,
                                   layers=layers, **sizes))  # fmt: skip


def names_of_the_assignment(state):
    """The parameters of `RecurrentSeq2Seq` as those of `Seq2Seq`."""
    names = {"encoder.rnn.": "encoder.gru.", "decoder.cells.0.": "decoder.cell."}
    for old, new in names.items():
        state = {name.replace(old, new): param for name, param in state.items()}
    return state


def test_with_a_gru_and_additive_attention_it_is_the_model_of_the_assignment(pairs):  # noqa: F811
    """The same logits, weights and gradients, and the same state after a word."""
    model = general()
    plain = build_model(SRC_SIZE, TRG_SIZE, 8, 12, 10)
    plain.load_state_dict(names_of_the_assignment(model.state_dict()))
    given, results = inputs(pairs), []
    for each in (model, plain):
        logits, weights = each(*given)
        (logits.square().sum() + weights.square().sum()).backward()
        grads = names_of_the_assignment({n: p.grad for n, p in each.named_parameters()})
        state = each.start(*given[:2])
        next_logits, next_weights, state = each.next_word(given[2][:, 0], state)
        rest = [part.double() for part in (next_logits, next_weights, *state)]
        results.append([logits, weights, *(grads[name] for name in sorted(grads)), *rest])
    assert largest_difference(*results) < 1e-12
    assert min(part.abs().max() for part in results[0]) > 1e-6


def single_step(rnn, suffix, cell):
    """The step of one direction of a layer."""
    weight = getattr(rnn, f"weight_ih_{suffix}")
    step = CELLS[cell](weight.size(1), rnn.hidden_size)
    names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    step.load_state_dict({name: getattr(rnn, f"{name}_{suffix}") for name in names})
    return lambda x, state: step(x, state) if cell == "lstm" else (step(x, state and state[0]),)


def slow_encoder(encoder, ids, cell):
    """One sentence, word by word: its annotations, and the first state of the decoder."""
    xs, bridges = encoder.embedding(ids), [encoder.bridge, encoder.cell_bridge]
    states = []
    for layer in range(encoder.rnn.num_layers):
        outputs, finals = [], []
        for suffix, order in ((f"l{layer}", 1), (f"l{layer}_reverse", -1)):
            step, state, written = single_step(encoder.rnn, suffix, cell), None, []
            for x in xs.flip(0) if order < 0 else xs:
                state = step(x.unsqueeze(0), state)
                written.append(state[0])
            outputs.append(torch.cat(written[::order]))
            finals.append(state)
        xs = torch.cat(outputs, dim=1)
        both = [torch.cat(part, dim=1) for part in zip(*finals, strict=True)]
        state = [bridge(part) for bridge, part in zip(bridges, both, strict=False)]
        states.append((state[0].tanh(), *state[1:]))
    return xs.unsqueeze(0), states


@pytest.mark.parametrize("kind", RECURRENT)
@torch.no_grad()
def test_all_against_single_steps(kind, pairs):  # noqa: F811
    """The state of all layers, the query, what the first layer reads, and what the output."""
    flags = KINDS[kind]
    located = flags["attention"] == "location"
    model = build(kind) if located else general(**flags)
    logits, all_weights = model(*inputs(pairs))
    decoder, cell = model.decoder, flags["cell"]
    for i, pair in enumerate(pairs):
        src, src_lens, trg_in = inputs([pair])
        src = frame(src, src_lens)[0] if located else src
        values, states = slow_encoder(model.encoder, src[0], cell)
        first_keys = decoder.attention.project_keys(values)
        weights, mask = torch.zeros(src.shape), torch.ones(src.shape, dtype=torch.bool)
        for t, ids in enumerate(trg_in[0]):
            keys = decoder.attention.locate(first_keys, weights) if located else first_keys
            context, weights = decoder.attention(states[-1][0], keys, values, mask)
            x = torch.cat([decoder.embedding(ids).unsqueeze(0), context], dim=1)
            for layer, step in enumerate(decoder.cells):
                new = step(x, states[layer] if cell == "lstm" else states[layer][0])
                states[layer] = new if cell == "lstm" else (new,)
                x = states[layer][0]
            expected = decoder.output(torch.cat([x, context], dim=1))[0]
            on_words = weights[:, 1:-1] if located else weights
            assert (logits[i, t] - expected).abs().max() < 1e-12
            assert (all_weights[i, t, : len(pair[0])] - on_words[0]).abs().max() < 1e-12


@pytest.mark.parametrize("cell, attention, layers", [*product(CELLS, ATTENTIONS, (1, 2))])
def test_the_size_of_the_state(cell, attention, layers, pairs):  # noqa: F811
    """For each layer its hidden state and, in an LSTM, its cell; then what there is to look at."""
    src, src_lens, _ = inputs(pairs)
    kind = f"{cell} {attention} {layers}"
    model = build(kind) if attention == "location" else general(cell, attention, layers)
    state = model.start(src, src_lens)
    own = layers * (2 if cell == "lstm" else 1)
    assert len(state) == own + (4 if attention == "location" else 3)
    assert all(part.shape == (4, 12) for part in state[:own])
    length = src.size(1) + 2 * (attention == "location")
    sizes = {"none": 0, "luong": 12, "luong-dot": 12, "bahdanau": 10, "location": 10}
    assert state[-3].shape == (4, length, sizes[attention])
    assert state[-2].shape == (4, length, 24) and state[-1].shape == (4, length)
    assert model.decoder.output.in_features == 12 + (attention != "none") * 24


def assert_dropped(x, whole):
    """About half of the numbers are 0, and the others twice as large as they were."""
    assert 0.4 < x.eq(0).double().mean() < 0.6
    assert (x - torch.where(x == 0, 0, 2 * whole)).abs().max() < 1e-12


@pytest.mark.parametrize("cell, layers", [*product(CELLS, (1, 2))])
@torch.no_grad()
def test_where_dropout_acts(cell, layers):
    """On embeddings, annotations and queries, and from layer to layer; not on the state that is
    handed on, and between the layers of the encoder only if there are some.
    """
    model = general(cell, "bahdanau", layers, dropout=0.5, emb_size=30, hidden_size=40)
    encoder, decoder, seen = model.encoder, model.decoder, {}
    parts = {"encoder": encoder.rnn, "attention": decoder.attention}
    parts |= {f"cell {i}": part for i, part in enumerate(decoder.cells)}
    for name, part in parts.items():
        part.register_forward_hook(lambda *args, name=name: seen.update({name: args[1:]}))
    batch = collate([([4, 5, 6, 7] * 5, [5, 6])] * 20)
    state = model.start(batch.src, batch.src_lens)
    model.next_word(batch.trg_in[:, 1], state)
    (packed, *_), (packed_outputs, _) = seen["encoder"]
    read, _ = pad_packed_sequence(packed, batch_first=True)
    outputs, _ = pad_packed_sequence(packed_outputs, batch_first=True)
    assert_dropped(read, encoder.embedding(batch.src))
    (query, _, values, _), _ = seen["attention"]
    assert_dropped(values, outputs)
    own = 2 if cell == "lstm" else 1  # parts of the state of a layer
    assert_dropped(query, state[own * (layers - 1)])
    below = decoder.embedding(batch.trg_in[:, 1])
    for i in range(layers):
        (x, old), new = seen[f"cell {i}"]
        assert_dropped(x[:, : below.size(1)], below)
        assert (old[0] if cell == "lstm" else old).equal(state[own * i])
        below = new[0] if cell == "lstm" else new
    assert encoder.rnn.dropout == (0.5 if layers > 1 else 0)


def test_a_source_is_framed_by_sentinels():
    framed, lens = frame(torch.tensor([[5, 6, 7], [8, PAD, PAD]]), torch.tensor([3, 1]))
    assert framed.tolist() == [[BOS, 5, 6, 7, EOS], [BOS, 8, EOS, PAD, PAD]]
    assert lens.tolist() == [5, 3]


@pytest.mark.parametrize("kind", [kind for kind in KINDS if "location" in kind])
def test_the_second_step_sees_where_the_first_one_looked(kind, pairs):  # noqa: F811
    """And the sum of the weights is 1 with those on the sentinels, which are in the state alone."""
    model, (src, src_lens, trg_in) = build(kind), inputs(pairs)
    start = model.start(src, src_lens)
    assert start[-4].eq(0).all()
    _, on_words, (*state, weights, keys, values, mask) = model.step(trg_in[:, 0], start)
    assert (weights.sum(dim=1) - 1).abs().max() < 1e-12
    for row, framed, n in zip(on_words, weights, src_lens, strict=True):
        assert row[:n].equal(framed[1 : n + 1]) and row[n:].eq(0).all()
    _, second, _ = model.step(trg_in[:, 1], (*state, weights, keys, values, mask))
    _, blind, _ = model.step(trg_in[:, 1], (*state, 0 * weights, keys, values, mask))
    assert (second - blind).abs().max() > 1e-3


@pytest.mark.parametrize("cell, layers", [*product(CELLS, (1, 3))])
@pytest.mark.parametrize("length", [7, 8, 9, 24])
@torch.no_grad()
def test_a_long_source_is_read_in_pieces(cell, layers, length, monkeypatch):
    """With what is read before handed on from piece to piece, in both directions."""
    encoder = RecurrentEncoder(SRC_SIZE, 5, 4, cell, layers, 0.1).eval()
    src, lens = torch.randint(3, SRC_SIZE, (1, length)), torch.tensor([length])
    whole, state = encoder(src, lens)
    monkeypatch.setattr(recurrent, "LONG", 8)
    pieces, same_state = encoder(src, lens)
    torch.testing.assert_close(pieces, whole)
    torch.testing.assert_close(same_state, state)
    read, before = encoder.read_in_pieces(src), torch.get_rng_state()
    torch.testing.assert_close(read, encoder.read(src, lens))
    assert torch.get_rng_state().equal(before), "no random number is drawn"
    padded = encoder(torch.cat([src, torch.zeros_like(src)], dim=1), lens)
    torch.testing.assert_close(padded[1], state)
    assert padded[0][:, length:].eq(0).all()
