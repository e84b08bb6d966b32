"""One step of learning: the loss, accumulated gradients, own words, half precision, schedules."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from helpers.config import Config
from helpers.data import PAD, collate
from helpers.decoding import greedy
from helpers.device import set_up
from helpers.learner import Learner, masked_cross_entropy, snap_to_grid, soft_cross_entropy
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
        forced, _ = model(*given, torch.ones(steps, dtype=torch.bool))
        torch.testing.assert_close(forced, plain, atol=1e-12, rtol=0)
        free, weights = model(*given, torch.zeros(steps, dtype=torch.bool))
    ids, greedy_weights = greedy(model, batch.src, batch.src_lens)
    for i, n in enumerate(batch.src_lens.tolist()):
        written = (ids[i] != PAD).sum().item()
        common = min(written, n + 1)
        assert free[i].argmax(dim=-1)[:common].equal(ids[i, :common])
        torch.testing.assert_close(weights[i, :common], greedy_weights[i, :common])
    assert (free - plain).abs().max() > 1e-3


def test_each_step_and_sentence_is_forced_on_its_own(task):
    """Forced up to step 2 and not from there on: the first three logits are those of forcing."""
    model = fresh_model(task)
    batch = collate(task.pairs.valid[:8])
    forced = torch.ones(batch.trg_in.shape, dtype=torch.bool)
    forced[3:, 3:] = False
    with torch.no_grad():
        plain, _ = model(batch.src, batch.src_lens, batch.trg_in)
        mixed, _ = model(batch.src, batch.src_lens, batch.trg_in, forced)
    torch.testing.assert_close(mixed[:3], plain[:3], atol=1e-12, rtol=0)
    torch.testing.assert_close(mixed[:, :3], plain[:, :3], atol=1e-12, rtol=0)
    assert (mixed[3:, 3] - plain[3:, 3]).abs().max() > 1e-3


def test_the_share_of_forced_words_is_the_one_asked_for(task, monkeypatch):
    learner = Learner(fresh_model(task), replace(TINY, accumulate=3), steps=1)
    seen = []
    forward = learner.forward

    def spy(src, src_lens, trg_in, forced=None):
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
    weights, adam = snapshot(learner.model), learner.optimizer.state_dict()["state"]
    moments = {i: {name: value + 0 for name, value in s.items()} for i, s in adam.items()}
    learner.model.decoder.output.bias.register_hook(lambda grad: grad * torch.inf)
    scale = learner.scaler.get_scale()
    lr = learner.step(batch).lr
    assert learner.scaler.get_scale() == scale / 2
    assert largest_difference(snapshot(learner.model), weights) == 0
    for i, state in learner.optimizer.state_dict()["state"].items():
        assert state["step"] == moments[i]["step"] == 1
        assert state["mean"].equal(moments[i]["mean"])
        assert state["square"].equal(moments[i]["square"])
    assert learner.optimizer.param_groups[0]["lr"] == lr, "a step not made does not count"


def test_the_plateau_schedule_lowers_the_learning_rate_only_when_the_loss_does_not_fall(task):
    config = replace(
        TINY, schedule="plateau", plateau_factor=0.1, plateau_patience=1, lr_floor=0.05
    )
    learner = Learner(fresh_model(task), config, steps=10)
    rates = []
    for loss in (3.0, 2.0, 2.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0):
        learner.step(collate(task.pairs.train[:4]))
        learner.end_epoch(loss)
        rates.append(learner.optimizer.param_groups[0]["lr"] / config.lr)
    assert rates == pytest.approx([1, 1, 1, 1, 1, 0.1, 0.1, 0.05, 0.05])


def test_the_learner_passes_all_settings_to_adam(task):
    config = replace(TINY, beta1=0.8, beta2=0.9, eps=1e-3, weight_decay=0.3, lr=0.01)
    (group,) = Learner(fresh_model(task), config, steps=10).optimizer.param_groups
    assert (group["lr"], group["betas"]) == (0.01, (0.8, 0.9))
    assert (group["eps"], group["weight_decay"]) == (1e-3, 0.3)


def random_logits():
    """Of three sentences; the targets of the last two are padded."""
    set_up(seed=0)
    trg_out = torch.tensor([[5, 6, 7, 2], [5, 2, PAD, PAD], [2, PAD, PAD, PAD]])
    return torch.randn(3, 4, 9), torch.randn(3, 4, 9), trg_out


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.5])
def test_label_smoothing_by_hand(smoothing):
    """A share of each target is spread evenly over all nine symbols, and over no padding."""
    logits, _, trg_out = random_logits()
    total, count = masked_cross_entropy(logits, trg_out, smoothing)
    expected = 0.0
    for row, words in zip(logits.log_softmax(dim=-1), trg_out.tolist(), strict=True):
        for log_probs, word in zip(row, words, strict=True):
            if word != PAD:
                expected -= (1 - smoothing) * log_probs[word] + smoothing * log_probs.mean()
    torch.testing.assert_close(total, expected)
    assert count == 7
    whole, _ = masked_cross_entropy(logits[:1], trg_out[:1], smoothing)
    how = {"label_smoothing": smoothing, "reduction": "sum"}
    torch.testing.assert_close(whole, F.cross_entropy(logits[0], trg_out[0], **how))
    padded = F.pad(logits, (0, 0, 0, 3), value=9.0), F.pad(trg_out, (0, 3), value=PAD)
    again, count = masked_cross_entropy(*padded, smoothing)
    assert again.item() == pytest.approx(total.item(), rel=1e-14) and count == 7


def test_the_soft_loss_by_hand():
    logits, teacher, trg_out = random_logits()
    expected = 0.0
    for i, n in enumerate((4, 2, 1)):
        for t in range(n):
            likely, log_probs = teacher[i, t].softmax(dim=-1), logits[i, t].log_softmax(dim=-1)
            expected -= sum(likely[v] * log_probs[v] for v in range(9))
    soft = soft_cross_entropy(logits, teacher, trg_out)
    torch.testing.assert_close(soft, expected)
    logits[1, 2:], teacher[2, 1:] = 50.0, -50.0
    assert soft_cross_entropy(logits, teacher, trg_out).equal(soft), "padding does not count"
    certain = 1e4 * F.one_hot(trg_out, 9).double()
    hard, _ = masked_cross_entropy(logits, trg_out)
    torch.testing.assert_close(soft_cross_entropy(logits, certain, trg_out), hard)


@pytest.mark.parametrize("accumulate", [1, 3])
def test_with_a_teacher_the_gradient_is_the_mean_of_both(task, accumulate):
    config = replace(TINY, accumulate=accumulate, label_smoothing=0.1)
    teacher = fresh_model(task, replace(TINY, seed=7, hidden_size=12))
    learner = Learner(fresh_model(task), config, steps=1, teacher=teacher)
    batch = collate(task.pairs.train[:16])
    inputs = batch.src, batch.src_lens, batch.trg_in
    loss, tokens = learner.backward(batch)
    hard_model, soft_model = fresh_model(task), fresh_model(task)
    hard, _ = masked_cross_entropy(hard_model(*inputs)[0], batch.trg_out, 0.1)
    soft = soft_cross_entropy(soft_model(*inputs)[0], teacher(*inputs)[0].detach(), batch.trg_out)
    assert loss == pytest.approx((hard + soft).item() / 2, rel=1e-12)
    (hard / tokens).backward()
    (soft / tokens).backward()
    both = zip(gradients(hard_model), gradients(soft_model), strict=True)
    assert largest_difference(gradients(learner.model), [(a + b) / 2 for a, b in both]) <= 1e-12
    assert largest_difference(gradients(hard_model), gradients(soft_model)) > 1e-3
    assert gradients(teacher) == [None] * len(gradients(teacher))


def test_sgd_is_torchs_own_with_momentum(task):
    config = replace(TINY, optimizer="sgd", lr=0.3, beta1=0.8, weight_decay=0.01, max_norm=1e9)
    config = replace(config, schedule="plateau")
    learner, model = Learner(fresh_model(task), config, steps=10), fresh_model(task)
    reference = torch.optim.SGD(model.parameters(), 0.3, momentum=0.8, weight_decay=0.01)
    for start in (0, 16, 32):
        batch = collate(task.pairs.train[start : start + 16])
        learner.step(batch)
        logits, _ = model(batch.src, batch.src_lens, batch.trg_in)
        total, count = masked_cross_entropy(logits, batch.trg_out)
        reference.zero_grad()
        (total / count).backward()
        reference.step()
        snap_to_grid(model)
    assert largest_difference(snapshot(learner.model), snapshot(model)) == 0


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"model": "lstm", "teacher_forcing": 0.9}, "teacher_forcing must be 1 .* lstm"),
        ({"model": "transformer", "teacher_forcing": 0.0}, "teacher_forcing must be 1"),
        ({"model": "transformer", "teacher_forcing_end": 0.5}, "teacher_forcing must be 1"),
        ({"model": "location", "task": "translate"}, "cannot learn translate"),
        ({"model": "location", "task": "patterns"}, "cannot learn patterns"),
        ({"model": "lstm", "dropout": 0.1}, "dropout is for the model location"),
        ({"model": "transformer", "emb_size": 6}, "divisible by heads: 6 and"),
        ({"model": "transformer", "emb_size": 5, "heads": 1}, "even and divisible"),
        ({"optimizer": "adagrad"}, "optimizer must be adam or sgd"),
        ({"label_smoothing": 1.0}, "label_smoothing must lie between"),
    ],
)
def test_settings_that_no_model_can_have(settings, message):
    with pytest.raises(ValueError, match=message):
        Config(**settings)


def test_settings_that_only_some_models_can_have():
    Config(model="luong", teacher_forcing=0.5, emb_size=5)
    Config(model="lstm", teacher_forcing_end=1, emb_size=5)
    Config(model="transformer", emb_size=6, heads=3)


def test_a_lesson_is_not_resumed_without_its_teacher(task):
    taught = Learner(fresh_model(task), TINY, 1, teacher=fresh_model(task))
    alone = Learner(fresh_model(task), TINY, 1)
    with pytest.raises(ValueError, match="had a teacher"):
        alone.load_state_dict(taught.state_dict())
    with pytest.raises(ValueError, match="had no teacher"):
        taught.load_state_dict(alone.state_dict())
