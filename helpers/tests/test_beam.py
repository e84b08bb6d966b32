"""Beam search against all that can be written."""

from itertools import product

import pytest
import torch

from helpers.data import BOS, EOS, PAD, UNK
from helpers.decoding import greedy
from helpers.search.beam import beam_search, decode_with_beam
from helpers.tests.test_decoding import CAT, DOG, SAT, SOURCES, THE, VOCAB
from helpers.tests.test_models import small
from helpers.training import set_up

KINDS = ["gru bahdanau 1", "gru luong 2", "lstm luong-dot 1", "lstm none 2", "gru location 1",
         "lstm location 2", "transformer"]  # fmt: skip


def model_of(kind, seed, size=8):
    """With embeddings ten times as large as usual: what is read makes a difference."""
    set_up(seed)
    layers = {"layers": 1} if kind == "transformer" else {}
    model = small(kind, emb_size=6, hidden_size=8, **layers).build(len(VOCAB), size)
    with torch.no_grad():
        for name, param in model.named_parameters():
            param.mul_(10 if "embedding" in name else 1).add_(0.3 * torch.randn_like(param))
    return model


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("penalty", [0.0, 1.0])
def test_a_beam_of_one_is_greedy(kind, penalty):
    src = torch.tensor([[CAT, PAD, PAD], [THE, CAT, SAT], [DOG, UNK, PAD], [SAT, SAT, SAT]])
    for seed in range(5):
        inputs = model_of(kind, seed), src, torch.tensor([1, 3, 2, 3])
        ids, weights = beam_search(*inputs, width=1, penalty=penalty)
        expected, expected_weights = greedy(*inputs)
        assert ids.equal(expected)
        ends = (ids == EOS).int()
        ended = (ends.cumsum(dim=1) > ends) | (
            torch.arange(ids.size(1)) >= (2 * inputs[2] + 2)[:, None]
        )
        assert not expected_weights[ended].any()
        torch.testing.assert_close(weights, expected_weights, rtol=0, atol=1e-12)


@torch.no_grad()
def all_answers(model, src, penalty):
    """Whatever can be written in an answer to one source in a step more than it has words."""
    steps = len(src) + 1
    written = torch.tensor(list(product(range(5), repeat=steps)))
    trg_in = torch.cat([torch.full_like(written[:, :1], BOS), written[:, :-1]], dim=1)
    sources = torch.tensor(src).expand(len(written), -1)
    logits, _ = model(sources, torch.full((len(written),), len(src)), trg_in)
    scores = logits.log_softmax(dim=-1).gather(2, written.unsqueeze(2)).squeeze(2)
    ratings = {}
    for row, score in zip(written.tolist(), scores, strict=True):
        n = row.index(EOS) + 1 if EOS in row else steps
        ratings[tuple(row[:n])] = score[:n].sum().item() / ((5 + n) / 6) ** penalty
    return ratings


def without_padding(row, steps):
    return tuple(row[: row.index(EOS) + 1] if EOS in row else row[:steps])


@pytest.mark.parametrize("kind", KINDS)
def test_a_beam_as_wide_as_all_answers_finds_the_best(kind, monkeypatch):
    """Five symbols in up to 3 and 2 steps are 85 and 21 answers. No beam finds better ones, and in
    these cases, though not in general, a wider one none that is worse.
    """
    monkeypatch.setattr("helpers.search.beam.max_steps", lambda model, lens: lens + 1)
    src, lens = torch.tensor([[UNK, CAT], [CAT, PAD]]), torch.tensor([2, 1])
    winners, greedy_is_worse = [], False
    for seed, penalty in product(range(4), (0.0, 1.0, 4.0)):
        model = model_of(kind, seed, size=5)
        ratings = [all_answers(model, source, penalty) for source in ([UNK, CAT], [CAT])]
        assert [len(answers) for answers in ratings] == [85, 21]
        best = [max(answers, key=answers.get) for answers in ratings]
        rated_by_width = []
        for width in (1, 2, 3, 10, 85, 100):
            rows = beam_search(model, src, lens, width, penalty)[0].tolist()
            answers = [without_padding(row, steps) for row, steps in zip(rows, (3, 2), strict=True)]
            rated_by_width.append([rated[ids] for rated, ids in zip(ratings, answers, strict=True)])
            assert width < 85 or answers == best
        assert all(list(column) == sorted(column) for column in zip(*rated_by_width, strict=True))
        greedy_is_worse |= rated_by_width[0] != rated_by_width[-1]
        winners.append((seed, *best))
    assert greedy_is_worse and len(set(winners)) > 4, "the width and the penalty matter"


@pytest.mark.parametrize("kind", KINDS)
def test_the_answers_of_a_beam_do_not_depend_on_the_batch(kind):
    model = model_of(kind, seed=3)
    alone = decode_with_beam(model, SOURCES, 4, batch_size=1)
    together = decode_with_beam(model, SOURCES, 4, batch_size=100)
    for src, one, other in zip(SOURCES, alone, together, strict=True):
        assert one.ids == other.ids
        torch.testing.assert_close(one.weights, other.weights, rtol=0, atol=1e-12)
        trg_in = torch.tensor([[BOS, *one.ids]])  # where did it look, to write these words?
        _, weights = model(torch.tensor([src]), torch.tensor([len(src)]), trg_in)
        expected = weights[0, : len(one.weights)].detach()
        torch.testing.assert_close(one.weights, expected, rtol=0, atol=1e-12)


def test_the_penalty_and_the_width_reach_the_search():
    model, sources = model_of("gru bahdanau 1", seed=1), [[CAT], [THE, CAT, SAT]]
    src, lens = torch.tensor([[CAT, PAD, PAD], [THE, CAT, SAT]]), torch.tensor([1, 3])
    seen = set()
    for width, penalty in product((1, 4), (0.0, 4.0)):
        ids, _ = beam_search(model, src, lens, width, penalty)
        answers = decode_with_beam(model, sources, width, penalty)
        rows = [
            without_padding(row, 2 * n + 2) for row, n in zip(ids.tolist(), (1, 3), strict=True)
        ]
        assert [answer.ids for answer in answers] == [[i for i in row if i != EOS] for row in rows]
        seen.add(tuple(rows))
    assert len(seen) == 3
    for beam in (0, -1):
        with pytest.raises(ValueError, match=f"at least 1, not {beam}"):
            decode_with_beam(model, sources, beam)


def test_a_finished_answer_of_a_beam_is_padded():
    src, lens, ended = torch.tensor([[CAT, PAD, PAD], [THE, CAT, SAT]]), (1, 3), set()
    for seed in range(10):
        ids, weights = beam_search(model_of("gru luong 2", seed), src, torch.tensor(lens), width=3)
        assert ids.shape == weights.shape[:2]
        for row, n in zip(ids.tolist(), lens, strict=True):
            end = len(without_padding(row, 2 * n + 2))
            assert end <= 2 * n + 2 and set(row[end:]) <= {PAD}
            ended.add((EOS in row, end < len(row)))
    assert {(True, True), (False, True)} <= ended, "some end early, some are cut off before others"


@pytest.mark.parametrize("width", [1, 2, 7])
def test_a_wide_beam_has_smaller_batches(width, monkeypatch):
    given = {}
    monkeypatch.setattr("helpers.search.beam.decode", lambda *args: given.update(args=args))
    decode_with_beam("model", "sources", width, batch_size=50)
    *first, search, tokens = given["args"]
    assert first == ["model", "sources", 50] and tokens == 20_000 // width
    assert (search is greedy) == (width == 1)
