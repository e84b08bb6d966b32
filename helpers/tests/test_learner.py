"""One step of learning: the loss, accumulated gradients, own words, half precision, schedules."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from helpers.data import PAD, collate
from helpers.decoding import greedy
from helpers.device import set_up
from helpers.learner import Learner, masked_cross_entropy, snap_to_grid
from helpers.tests.tiny import TINY, fresh_model, largest_difference, tiny_task


@pytest.fixture(scope="module")
def task():
    return tiny_task()


def gradients(model):
    return [weight.grad for weight in model.parameters()]


def snapshot(model):
    return [weight.detach().clone() for weight in model.parameters()]


def test_padding_does_not_count_in_the_loss():
    set_up(seed=0)
    logits = torch.randn(2, 4, 9)
    trg_out = torch.tensor([[5, 6, 7, 2], [5, 2, PAD, PAD]])
    total, count = masked_cross_entropy(logits, trg_out)
    real = F.cross_entropy(logits[0], trg_out[0], reduction="sum")
    real = real + F.cross_entropy(logits[1, :2], trg_out[1, :2], reduction="sum")
    assert count == 6
    torch.testing.assert_close(total, real)
    other = logits.clone()
    other[1, 2:] = 100.0
    assert masked_cross_entropy(other, trg_out)[0].equal(total)


def test_snapping_removes_what_another_machine_rounds_differently(task):
    model, other = fresh_model(task), fresh_model(task)
    for weight in other.parameters():
        weight.data.mul_(1 + 1e-13 * torch.randn_like(weight))
    snap_to_grid(model)
    snap_to_grid(other)
    for mine, theirs in zip(model.parameters(), other.parameters(), strict=True):
        assert mine.equal(theirs) and (mine * 2**20 % 1 == 0).all()
    assert largest_difference(snapshot(model), snapshot(fresh_model(task))) <= 2**-21


def test_snapping_leaves_float32_alone(task):
    model = fresh_model(task).float()
    before = snapshot(model)
    snap_to_grid(model)
    assert largest_difference(snapshot(model), before) == 0


@pytest.mark.parametrize("accumulate", [2, 3, 7, 16, 40])
def test_accumulated_gradients_are_those_of_the_whole_batch(task, accumulate):
    """Also if the parts differ in their number of tokens, and if there are more parts than rows."""
    pairs = sorted(task.pairs.train[:16], key=lambda pair: len(pair[0]))
    batch = collate(pairs)
    counts = {int((batch.part(i, 2).trg_out != PAD).sum()) for i in range(2)}
    assert len(counts) == 2
    whole = Learner(fresh_model(task), TINY, steps=1)
    parts = Learner(fresh_model(task), replace(TINY, accumulate=accumulate), steps=1)
    loss, tokens = whole.backward(batch)
    assert parts.backward(batch) == (pytest.approx(loss, rel=1e-12), tokens)
    assert largest_difference(gradients(whole.model), gradients(parts.model)) <= 1e-12
    for learner in (whole, parts):  # and if some words are the model's own
        torch.manual_seed(0)
        learner.backward(batch, forcing=0.3)
    assert largest_difference(gradients(whole.model), gradients(parts.model)) <= 1e-12


def test_the_gradient_is_that_of_the_mean_loss_per_token(task):
    batch = collate(task.pairs.train[:16])
    learner, reference = Learner(fresh_model(task), TINY, steps=1), fresh_model(task)
    learner.backward(batch)
    logits, _ = reference(batch.src, batch.src_lens, batch.trg_in)
    real = batch.trg_out != PAD
    F.cross_entropy(logits[real], batch.trg_out[real]).backward()
    assert largest_difference(gradients(learner.model), gradients(reference)) <= 1e-12


def test_a_step_reports_what_it_did(task):
    config = replace(TINY, max_norm=0.1)
    learner = Learner(fresh_model(task), config, steps=10)
    batch = collate(task.pairs.train[:16])
    step = learner.step(batch)
    assert step.tokens == batch.tokens() == sum(len(trg) + 1 for _, trg in task.pairs.train[:16])
    assert step.lr == TINY.lr and learner.step(batch).lr < TINY.lr
    assert step.norm > 0.1 and step.clipped == 0.1
    norm = torch.stack([grad.norm() for grad in gradients(learner.model)]).norm()
    assert norm == pytest.approx(0.1, rel=1e-4)


def test_own_words_are_read_where_the_true_ones_are_not_forced(task):
    model = fresh_model(task)
    with torch.no_grad():
        for weight in model.parameters():
            weight.mul_(3)  # so that an untrained model does not write one word for ever
    batch = collate(task.pairs.valid[:20])
    given = (batch.src, batch.src_lens, batch.trg_in)
    steps = batch.trg_in.shape
    with torch.no_grad():
        plain, _ = model(*given)
        assert model(*given, torch.ones(steps, dtype=torch.bool))[0].equal(plain)
        free, weights = model(*given, torch.zeros(steps, dtype=torch.bool))
    ids, greedy_weights = greedy(model, batch.src, batch.src_lens)
    for i, n in enumerate(batch.src_lens.tolist()):
        written = (ids[i] != PAD).sum().item()
        common = min(written, n + 1)
        assert free[i].argmax(dim=-1)[:common].equal(ids[i, :common])
        torch.testing.assert_close(weights[i, :common], greedy_weights[i, :common])
    assert not free.equal(plain)


def test_each_step_and_sentence_is_forced_on_its_own(task):
    """Forced up to step 2 and not from there on: the first three logits are those of forcing."""
    model = fresh_model(task)
    batch = collate(task.pairs.valid[:8])
    forced = torch.ones(batch.trg_in.shape, dtype=torch.bool)
    forced[3:, 3:] = False
    with torch.no_grad():
        plain, _ = model(batch.src, batch.src_lens, batch.trg_in)
        mixed, _ = model(batch.src, batch.src_lens, batch.trg_in, forced)
    assert mixed[:3].equal(plain[:3]) and mixed[:, :3].equal(plain[:, :3])
    assert not mixed[3:, 3].equal(plain[3:, 3])


def test_the_share_of_forced_words_is_the_one_asked_for(task, monkeypatch):
    learner = Learner(fresh_model(task), replace(TINY, accumulate=3), steps=1)
    seen = []
    forward = learner.forward

    def spy(src, src_lens, trg_in, forced):
        seen.append(forced)
        return forward(src, src_lens, trg_in, forced)

    learner.forward = spy
    batch = collate(task.pairs.train[:200])
    learner.backward(batch, forcing=0.3)
    assert sum(map(len, seen)) == 200
    assert torch.cat(seen).double().mean() == pytest.approx(0.3, abs=0.05)
    seen.clear()
    learner.backward(batch, forcing=1.0)
    assert seen == [None] * 3


def half_precision_learner(task):
    """Mixed precision as on a GPU, but on the CPU, where torch takes bfloat16."""
    set_up(TINY.seed, device="cuda")  # float32
    model = fresh_model(task).float()
    return Learner(model, replace(TINY, amp=True), steps=10)


def test_mixed_precision_multiplies_in_half_and_keeps_weights_in_float32(task):
    learner = half_precision_learner(task)
    kinds = []
    learner.model.decoder.output.register_forward_hook(lambda *args: kinds.append(args[-1].dtype))
    before = snapshot(learner.model)
    step = learner.step(collate(task.pairs.train[:16]))
    assert kinds == [torch.bfloat16]
    assert {weight.dtype for weight in learner.model.parameters()} == {torch.float32}
    assert 0.01 < step.norm < 100, "clipping must see the gradient, not the scaled gradient"
    assert 0 < largest_difference(snapshot(learner.model), before) < 2 * TINY.lr


def test_a_step_whose_gradient_overflows_changes_nothing_but_the_scale(task):
    learner = half_precision_learner(task)
    batch = collate(task.pairs.train[:16])
    learner.step(batch)
    weights, adam = snapshot(learner.model), learner.adam.state_dict()["state"]
    moments = {i: {name: value + 0 for name, value in s.items()} for i, s in adam.items()}
    learner.model.decoder.output.bias.register_hook(lambda grad: grad * torch.inf)
    scale = learner.scaler.get_scale()
    lr = learner.step(batch).lr
    assert learner.scaler.get_scale() == scale / 2
    assert largest_difference(snapshot(learner.model), weights) == 0
    for i, state in learner.adam.state_dict()["state"].items():
        assert state["step"] == moments[i]["step"] == 1
        assert state["mean"].equal(moments[i]["mean"])
        assert state["square"].equal(moments[i]["square"])
    assert learner.adam.param_groups[0]["lr"] == lr, "a step not made does not count"


def test_the_plateau_schedule_lowers_the_learning_rate_only_when_the_loss_does_not_fall(task):
    config = replace(
        TINY, schedule="plateau", plateau_factor=0.1, plateau_patience=1, lr_floor=0.05
    )
    learner = Learner(fresh_model(task), config, steps=10)
    rates = []
    for loss in (3.0, 2.0, 2.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0):
        learner.step(collate(task.pairs.train[:4]))
        learner.end_epoch(loss)
        rates.append(learner.adam.param_groups[0]["lr"] / config.lr)
    assert rates == pytest.approx([1, 1, 1, 1, 1, 0.1, 0.1, 0.05, 0.05])


def test_the_learner_passes_all_settings_to_adam(task):
    config = replace(TINY, beta1=0.8, beta2=0.9, eps=1e-3, weight_decay=0.3, lr=0.01)
    (group,) = Learner(fresh_model(task), config, steps=10).adam.param_groups
    assert (group["lr"], group["betas"]) == (0.01, (0.8, 0.9))
    assert (group["eps"], group["weight_decay"]) == (1e-3, 0.3)
