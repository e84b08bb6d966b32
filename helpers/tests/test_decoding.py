"""Greedy decoding against a step-by-step loop, and words copied from the source."""

import pytest
import torch

from helpers.config import Config
from helpers.data import BOS, EOS, PAD, SPECIALS, UNK, Vocab
from helpers.decoding import Decoded, decode, greedy, max_steps, reverse_lines, spell
from helpers.device import set_up
from helpers.model import build_model

VOCAB = Vocab([*SPECIALS, "cat", "dog", "sat", "the"])
CAT, DOG, SAT, THE = range(4, 8)


@pytest.fixture
def model():
    set_up(seed=5)
    model = build_model(Config(emb_size=6, hidden_size=8, attn_size=5), len(VOCAB))
    for weight in model.parameters():
        weight.data.mul_(4)
    return model


@torch.no_grad()
def slow_greedy(model, src):
    """One sentence, the whole prefix read again at each step."""
    prefix = [BOS]
    while len(prefix) <= max_steps(len(src)):
        source, lens = torch.tensor([src]), torch.tensor([len(src)])
        logits, _ = model(source, lens, torch.tensor([prefix]))
        best = logits[0, -1].argmax().item()
        if best == EOS:
            break
        prefix.append(best)
    return prefix[1:]


def test_greedy_equals_the_slow_loop(model):
    sources = [[CAT], [THE, CAT, SAT], [UNK, DOG], [THE, DOG, SAT, CAT, CAT, UNK], [SAT, SAT]]
    answers = decode(model, sources)
    assert [answer.ids for answer in answers] == [slow_greedy(model, src) for src in sources]
    assert len({tuple(answer.ids) for answer in answers}) > 1
    for src, answer in zip(sources, answers, strict=True):
        stopped = len(answer.ids) < max_steps(len(src))
        assert answer.weights.shape == (len(answer.ids) + stopped, len(src))


def test_the_weights_are_those_of_teacher_forcing_with_the_same_words(model):
    (answer,) = decode(model, [[THE, CAT, SAT]])
    trg_in = torch.tensor([[BOS, *answer.ids]])
    _, weights = model(torch.tensor([[THE, CAT, SAT]]), torch.tensor([3]), trg_in)
    torch.testing.assert_close(answer.weights, weights[0, : len(answer.weights)].detach())


def test_long_sources_are_decoded_in_smaller_batches(model, monkeypatch):
    sources = [[CAT] * n for n in (1, 30, 2, 7, 30, 12)]
    expected = [answer.ids for answer in decode(model, sources)]
    monkeypatch.setattr("helpers.decoding.BATCH_TOKENS", 24)
    assert [answer.ids for answer in decode(model, sources)] == expected


def test_a_sentence_is_cut_off_after_twice_its_length_and_two_steps():
    assert max_steps(3) == 8


def test_nothing_follows_the_end(model):
    src = torch.tensor([[CAT, PAD, PAD], [THE, CAT, SAT]])
    ids, weights = greedy(model, src, torch.tensor([1, 3]))
    assert ids.shape == weights.shape[:2] and ids.size(1) <= max_steps(3)
    for row, length in zip(ids.tolist(), (1, 3), strict=True):
        end = row.index(EOS) + 1 if EOS in row else max_steps(length)
        assert end <= max_steps(length) and set(row[end:]) <= {PAD}


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


def test_one_answer_a_line_whatever_the_line(model):
    lines = ["the cat", "", "  \t", "<pad> <unk> <eos>", "the cat sat"]
    answers = list(reverse_lines(model, VOCAB, lines, chunk=2))
    assert len(answers) == 5 and answers[1] == answers[2] == ""
    assert answers == list(reverse_lines(model, VOCAB, iter(lines)))
