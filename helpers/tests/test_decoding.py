"""Greedy decoding against a step-by-step loop, and words copied from the source."""

import pytest
import torch

from helpers.data import BOS, EOS, PAD, SPECIALS, UNK, Vocab, pad
from helpers.decoding import (
    Decoded,
    decode,
    greedy,
    greedy_exact_match,
    in_batches,
    max_steps,
    spell,
)
from helpers.model import build_model
from helpers.tests.test_models import KINDS, build
from helpers.training import set_up

VOCAB = Vocab([*SPECIALS, "cat", "dog", "sat", "the"])
CAT, DOG, SAT, THE = range(4, 8)
SOURCES = [[CAT], [THE, CAT, SAT], [UNK, DOG], [THE, DOG, SAT, CAT, CAT, UNK], [SAT, SAT]]


@pytest.fixture
def model():
    """Of its answers to `SOURCES`, the first three end early, the others are cut off."""
    set_up(seed=8)
    model = build_model(len(VOCAB), len(VOCAB), 6, 8, 5)
    torch.manual_seed(8)
    with torch.no_grad():
        for name, param in model.named_parameters():
            param.mul_(10 if "embedding" in name else 4).add_(0.3 * torch.randn_like(param))
    return model


@torch.no_grad()
def slow_greedy(model, src):
    """One sentence, the whole prefix read again at each step."""
    prefix = [BOS]
    while len(prefix) <= 2 * len(src) + 2:
        source, lens = torch.tensor([src]), torch.tensor([len(src)])
        logits, _ = model(source, lens, torch.tensor([prefix]))
        best = logits[0, -1].argmax().item()
        if best == EOS:
            break
        prefix.append(best)
    return prefix[1:]


def test_greedy_equals_the_slow_loop(model):
    answers = decode(model, SOURCES)
    assert [answer.ids for answer in answers] == [slow_greedy(model, src) for src in SOURCES]
    assert len({tuple(answer.ids) for answer in answers}) > 1
    for src, answer in zip(SOURCES, answers, strict=True):
        stopped = len(answer.ids) < 2 * len(src) + 2
        assert answer.weights.shape == (len(answer.ids) + stopped, len(src))


def test_the_weights_are_those_of_teacher_forcing_with_the_same_words(model):
    (answer,) = decode(model, [[THE, CAT, SAT]])
    trg_in = torch.tensor([[BOS, *answer.ids]])
    _, weights = model(torch.tensor([[THE, CAT, SAT]]), torch.tensor([3]), trg_in)
    torch.testing.assert_close(answer.weights, weights[0, : len(answer.weights)].detach())


@pytest.mark.parametrize("kind", KINDS)
def test_every_model_writes_what_it_likes_best_at_each_step(kind):
    """And looks where it looks when it is given the same words."""
    model = build(kind, len(VOCAB), len(VOCAB))
    answers = decode(model, SOURCES)
    assert [answer.ids for answer in answers] == [slow_greedy(model, src) for src in SOURCES]
    for src, answer in zip(SOURCES, answers, strict=True):
        trg_in = torch.tensor([[BOS, *answer.ids]])
        _, weights = model(torch.tensor([src]), torch.tensor([len(src)]), trg_in)
        expected = weights[0, : len(answer.weights)].detach()
        torch.testing.assert_close(answer.weights, expected, rtol=0, atol=1e-12)


def test_long_sources_are_decoded_in_smaller_batches(model):
    sources = [[CAT] * n for n in (1, 30, 2, 7, 30, 12)]
    expected = [answer.ids for answer in decode(model, sources)]
    few = decode(model, sources, batch_tokens=24)
    assert [answer.ids for answer in few] == expected
    sizes = [(len(chosen), src.size(1)) for chosen, src, _ in in_batches(model, sources, 9, 24)]
    assert sizes == [(1, 30), (1, 30), (2, 12), (2, 2)]
    for size in (1, 2, 4):
        assert [len(chosen) for chosen, *_ in in_batches(model, sources, size, 10**6)][0] == size


def test_the_batches_hold_each_source_once(model):
    sources = [[CAT] * n for n in (3, 1, 2, 7, 1)]
    seen = {}
    for chosen, src, lens in in_batches(model, sources, 2, 100):
        assert lens.tolist() == [len(sources[i]) for i in chosen] and src.size(1) == max(lens)
        for i, row, n in zip(chosen, src.tolist(), lens.tolist(), strict=True):
            assert row[:n] == sources[i] and set(row[n:]) <= {PAD}
            seen[i] = n
    assert sorted(seen) == [0, 1, 2, 3, 4]


def test_decode_takes_any_search(model):
    """It is given whole batches; what follows <eos> is no part of the answer, nor its weights."""

    def search(model, src, src_lens):
        ids = torch.tensor([[SAT, EOS, DOG, DOG]] * len(src))
        return ids, torch.ones(len(src), 4, src.size(1)) * src_lens.view(-1, 1, 1)

    answers = decode(model, [[CAT], [THE, CAT]], search=search)
    assert [answer.ids for answer in answers] == [[SAT], [SAT]]
    assert answers[0].weights.tolist() == [[1.0], [1.0]]
    assert answers[1].weights.tolist() == [[2.0, 2.0], [2.0, 2.0]]


def test_a_sentence_is_cut_off_after_twice_its_length_and_two_steps():
    model = build("gru bahdanau 1", 8, 8)
    assert max_steps(model, torch.tensor([3, 1])).tolist() == [8, 4]
    model.longest = 7
    assert max_steps(model, torch.tensor([3, 1])).tolist() == [8, 7]


def test_nothing_follows_the_end(model):
    lens = torch.tensor([len(src) for src in SOURCES])
    ids, weights = greedy(model, pad(SOURCES), lens)
    assert ids.shape == weights.shape[:2] and ids.size(1) <= 14
    ends = []
    for row, looks, n in zip(ids.tolist(), weights, lens.tolist(), strict=True):
        ends.append(row.index(EOS) + 1 if EOS in row else 2 * n + 2)
        assert ends[-1] <= 2 * n + 2 and set(row[ends[-1] :]) <= {PAD}
        assert looks[: ends[-1], :n].sum(dim=1).sub(1).abs().max() < 1e-12
        assert looks[ends[-1] :].eq(0).all() and looks[:, n:].eq(0).all()
    early = [end < 2 * n + 2 for end, n in zip(ends, lens.tolist(), strict=True)]
    assert early == [True, True, True, False, False]


def test_answers_come_in_the_order_of_the_questions(model):
    sources = [[THE, CAT, SAT], [CAT], [DOG, SAT]]
    forwards = [answer.ids for answer in decode(model, sources, batch_size=2)]
    backwards = [answer.ids for answer in decode(model, sources[::-1], batch_size=2)]
    assert forwards == backwards[::-1]
    assert decode(model, []) == []


def look_at(*positions, n):
    return torch.eye(n)[list(positions)]


@pytest.mark.parametrize(
    "line, ids, looks, expected",
    [
        ("The cat sat.", [SAT, CAT, THE], (2, 1, 0), "sat. cat The"),
        ("Mat and Pat", [UNK, UNK, UNK], (2, 1, 0), "Pat and Mat"),
        # The word decides between known and unknown, the weight among those of the same kind.
        ("the Cat cat", [CAT, CAT, THE], (2, 1, 2), "cat Cat the"),
        ("the mat", [UNK, THE], (0, 0), "mat the"),
        # A word that the source does not have; a special symbol that no source token explains.
        ("the cat", [DOG, THE], (1, 0), "dog the"),
        ("the cat", [UNK, THE], (1, 0), "cat the"),
        ("the cat", [BOS, THE], (1, 0), "cat the"),
    ],
)
def test_spell(line, ids, looks, expected):
    tokens = tuple(line.split())
    answer = Decoded(ids, look_at(*looks, n=len(tokens)))
    assert " ".join(spell(tokens, VOCAB.encode(tokens), answer, VOCAB)) == expected


def test_without_attention_only_what_is_clear_is_copied():
    tokens = ("The", "Cat", "Mat", "cat", "Pat")
    answer = Decoded([UNK, CAT, THE], torch.zeros(4, 5))
    assert spell(tokens, VOCAB.encode(tokens), answer, VOCAB) == ["<unk>", "cat", "The"]


def test_exact_match_is_that_of_whole_answers(model):
    """Of three pairs, one has the words that the model writes."""
    written = [answer.ids for answer in decode(model, SOURCES[:3])]
    targets = [written[0], [*written[1], CAT], written[2][:-1]]
    pairs = [*zip(SOURCES[:3], targets, strict=True)]
    assert greedy_exact_match(model, pairs) == greedy_exact_match(model, pairs, 1) == 1 / 3
    assert greedy_exact_match(model, pairs[:1]) == 1
