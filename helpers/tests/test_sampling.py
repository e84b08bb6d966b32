"""Scheduled sampling: which words are read, and what follows from them."""

import pytest
import torch

from helpers.data import BOS, EOS, collate
from helpers.decoding import greedy
from helpers.runs.sampling import OwnWords
from helpers.tests.test_models import KINDS, build, inputs, pairs  # noqa: F401  (a fixture)


@pytest.fixture(params=KINDS)
def model(request):
    return build(request.param)


def test_forced_throughout_it_is_teacher_forcing(model, pairs):  # noqa: F811
    given = inputs(pairs)
    forced = torch.ones_like(given[2], dtype=torch.bool)
    for some, other in zip(OwnWords(model)(*given, forced), model(*given), strict=True):
        assert (some - other).abs().max() < 1e-12


def test_never_forced_it_writes_what_greedy_writes(model, pairs):  # noqa: F811
    """Whatever the target is. The first step reads <bos>."""
    src, src_lens, trg_in = inputs(pairs)
    forced = torch.zeros_like(trg_in, dtype=torch.bool)
    logits, weights = OwnWords(model)(src, src_lens, trg_in, forced)
    expected, expected_weights = greedy(model, src, src_lens)
    ids, ended = logits.argmax(dim=-1), torch.zeros(len(src), dtype=torch.bool)
    for t in range(min(trg_in.size(1), expected.size(1))):
        assert ids[~ended, t].equal(expected[~ended, t])
        difference = weights[~ended, t] - expected_weights[~ended, t]
        assert difference.numel() == 0 or difference.abs().max() < 1e-12
        ended |= (expected[:, t] == EOS) | (t + 1 >= 2 * src_lens + 2)
    other = trg_in.clone()
    other[:, 1:] = 7
    assert OwnWords(model)(src, src_lens, other, forced)[0].equal(logits)


def test_each_step_and_sentence_is_forced_on_its_own(model, pairs):  # noqa: F811
    """As if the words that are read had been the true ones from the first."""
    src, src_lens, trg_in = inputs(pairs)
    torch.manual_seed(0)
    forced = torch.rand(trg_in.shape) < 0.5
    logits, weights = OwnWords(model)(src, src_lens, trg_in, forced)
    own = torch.cat([trg_in[:, :1], logits.argmax(dim=-1)[:, :-1]], dim=1)
    read = torch.where(forced, trg_in, own)
    read[:, 0] = BOS
    assert not read.equal(trg_in) and not read.equal(own)
    expected, expected_weights = model(src, src_lens, read)
    assert (logits - expected).abs().max() < 1e-12
    assert (weights - expected_weights).abs().max() < 1e-12


def test_the_first_step_reads_bos_even_if_it_is_not_forced():
    model, batch = build("gru bahdanau 1"), collate([([4, 5], [6, 7])])
    given, forced = batch[:3], torch.tensor([[False, True, True]])
    assert OwnWords(model)(*given, forced)[0].sub(model(*given)[0]).abs().max() < 1e-12


def test_the_gradient_reaches_the_parameters_of_the_model(pairs):  # noqa: F811
    model, given = build("gru bahdanau 1"), inputs(pairs)
    module = OwnWords(model)
    assert [*module.parameters()] == [*model.parameters()]
    logits, _ = module(*given, torch.rand(given[2].shape) < 0.5)
    logits.square().sum().backward()
    assert all(param.grad.abs().max() > 1e-9 for param in model.parameters())
