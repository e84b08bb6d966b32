"""One step of learning: the loss, accumulated gradients, own words, half precision, schedules."""

import pytest
import torch
import torch.nn.functional as F

from helpers.data import PAD, collate
from helpers.optim import Adam
from helpers.runs.fused import Fused
from helpers.runs.losses import smoothed_cross_entropy, soft_cross_entropy
from helpers.runs.sampling import OwnWords
from helpers.runs.step import Learner, part_of
from helpers.tests.tiny import TINY, fresh_model, largest_difference, tiny_data
from helpers.training import masked_cross_entropy, snap_to_grid, train_step


@pytest.fixture(scope="module")
def data():
    return tiny_data()


def gradients(model):
    return [param.grad for param in model.parameters()]


def snapshot(model):
    return [param.detach().clone() for param in model.parameters()]


@pytest.mark.parametrize("accumulate", [2, 3, 7, 16, 40])
def test_accumulated_gradients_are_those_of_the_whole_batch(data, accumulate):
    """Also if the parts differ in their number of tokens, and if there are more parts than rows."""
    pairs = sorted(data.pairs.train[:16], key=lambda pair: len(pair[0]))
    batch = collate(pairs)
    counts = {int((part_of(batch, i, 2).trg_out != PAD).sum()) for i in range(2)}
    assert len(counts) == 2
    for forcing in (1.0, 0.3):  # and if some words are the model's own
        settings = TINY.having(teacher_forcing=forcing)
        whole = Learner(fresh_model(data), settings, steps=1)
        parts = Learner(fresh_model(data), settings.having(accumulate=accumulate), steps=1)
        answers = []
        for learner in (whole, parts):
            torch.manual_seed(0)
            learner.forcing = forcing
            answers.append(learner.backward(batch))
        (loss, tokens), other = answers
        assert other == (pytest.approx(loss, rel=1e-12), tokens)
        assert largest_difference(gradients(whole.model), gradients(parts.model)) <= 1e-12


def test_the_gradient_is_that_of_the_mean_loss_per_token(data):
    batch = collate(data.pairs.train[:16])
    learner, reference = Learner(fresh_model(data), TINY, steps=1), fresh_model(data)
    learner.backward(batch)
    logits, _ = reference(batch.src, batch.src_lens, batch.trg_in)
    real = batch.trg_out != PAD
    F.cross_entropy(logits[real], batch.trg_out[real]).backward()
    assert largest_difference(gradients(learner.model), gradients(reference)) <= 1e-12


def test_a_step_reports_what_it_did(data):
    settings = TINY.having(max_norm=0.1)
    learner = Learner(fresh_model(data), settings, steps=10)
    batch = collate(data.pairs.train[:16])
    step = learner.step(batch)
    assert step.tokens == sum(len(trg) + 1 for _, trg in data.pairs.train[:16])
    lr = TINY.optimizer.lr
    assert step.lr == lr and learner.step(batch).lr < lr
    assert step.norm > 0.1 and step.clipped == 0.1
    norm = torch.stack([grad.norm() for grad in gradients(learner.model)]).norm()
    assert norm == pytest.approx(0.1, rel=1e-4)


def test_in_its_plain_form_a_step_is_that_of_the_assignment(data):
    settings = TINY.having(schedule="plateau")  # which leaves the learning rate as it is
    model, learner = fresh_model(data), Learner(fresh_model(data), settings, steps=5)
    optimizer = Adam(model.parameters(), settings.optimizer.lr, betas=(0.9, 0.98))
    for start in range(0, 80, 16):
        batch = collate(data.pairs.train[start : start + 16])
        loss, tokens = train_step(model, batch, optimizer)
        snap_to_grid(model)
        step = learner.step(batch)
        assert (step.loss, step.tokens) == (pytest.approx(loss, rel=1e-9), tokens)
    assert largest_difference(snapshot(learner.model), snapshot(model)) <= 1e-9


@pytest.mark.parametrize(
    "changes, called",
    [
        ({}, Fused),
        ({"attention": "luong"}, Fused),
        ({"attention": "none"}, Fused),
        ({"attention": "location"}, None),
        ({"teacher_forcing": 0.5}, OwnWords),
        ({"teacher_forcing_end": 0.5}, OwnWords),
        ({"cell": "lstm", "teacher_forcing_end": 0.5}, OwnWords),
        ({"cell": "lstm"}, None),
        ({"layers": 2}, None),
        ({"model": "transformer"}, None),
    ],
    ids=str,
)
def test_what_is_called_in_the_place_of_the_model(data, changes, called):
    settings = TINY.having(**changes)
    model = fresh_model(data, settings)
    learner = Learner(model, settings, steps=1)
    assert type(learner.forward) is called if called else learner.forward is model


def test_the_share_of_forced_words_is_the_one_asked_for(data):
    settings = TINY.having(accumulate=3, teacher_forcing_end=0.3)
    learner = Learner(fresh_model(data), settings, steps=1)
    seen, forward = [], learner.forward

    def spy(src, src_lens, trg_in, forced):
        seen.append(forced)
        return forward(src, src_lens, trg_in, forced)

    learner.forward = spy
    batch = collate(data.pairs.train[:200])
    learner.forcing = 0.3
    learner.backward(batch)
    assert sum(map(len, seen)) == 200
    forced = torch.cat(seen)  # (200, T)
    assert forced.double().mean() == pytest.approx(0.3, abs=0.05)
    mixed = forced.any(dim=1) & ~forced.all(dim=1)
    assert mixed.double().mean() > 0.8, "each word is drawn by itself"
    seen.clear()
    learner.forcing = 1.0
    learner.backward(batch)
    assert torch.cat(seen).all() and sum(map(len, seen)) == 200


def test_where_all_words_are_the_true_ones_no_random_number_is_drawn(data):
    learner, before = Learner(fresh_model(data), TINY, steps=1), torch.get_rng_state()
    learner.step(collate(data.pairs.train[:16]))
    assert torch.get_rng_state().equal(before)


def half_precision_learner(data):
    """Mixed precision as on a GPU, but on the CPU, where torch takes bfloat16."""
    settings = TINY.having(precision="float32", amp=True)
    return Learner(fresh_model(data, settings), settings, steps=10)


def test_mixed_precision_multiplies_in_half_and_keeps_parameters_in_float32(data):
    learner = half_precision_learner(data)
    kinds = []
    learner.model.decoder.output.register_forward_hook(lambda *args: kinds.append(args[-1].dtype))
    before = snapshot(learner.model)
    step = learner.step(collate(data.pairs.train[:16]))
    assert kinds == [torch.bfloat16]
    assert {param.dtype for param in learner.model.parameters()} == {torch.float32}
    assert 0.01 < step.norm < 100, "clipping must see the gradient, not the scaled gradient"
    assert 0 < largest_difference(snapshot(learner.model), before) < 2 * TINY.optimizer.lr


def test_a_step_whose_gradient_overflows_changes_nothing_but_the_scale(data):
    learner = half_precision_learner(data)
    batch = collate(data.pairs.train[:16])
    learner.step(batch)
    before, adam = snapshot(learner.model), learner.optimizer.state_dict()["state"]
    moments = {i: {name: value + 0 for name, value in s.items()} for i, s in adam.items()}
    learner.model.decoder.output.bias.register_hook(lambda grad: grad * torch.inf)
    scale = learner.scaler.get_scale()
    lr = learner.step(batch).lr
    assert learner.scaler.get_scale() == scale / 2
    assert largest_difference(snapshot(learner.model), before) == 0
    for i, state in learner.optimizer.state_dict()["state"].items():
        assert state["step"] == moments[i]["step"] == 1
        assert state["mean"].equal(moments[i]["mean"])
        assert state["square"].equal(moments[i]["square"])
    assert learner.optimizer.param_groups[0]["lr"] == lr, "a step not made does not count"


def test_the_plateau_schedule_lowers_the_learning_rate_only_when_the_loss_does_not_fall(data):
    falling = {"plateau_factor": 0.1, "plateau_patience": 1, "lr_floor": 0.05}
    settings = TINY.having(schedule="plateau", **falling)
    learner = Learner(fresh_model(data), settings, steps=10)
    rates = []
    for loss in (3.0, 2.0, 2.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0):
        learner.step(collate(data.pairs.train[:4]))
        learner.end_epoch(loss)
        rates.append(learner.optimizer.param_groups[0]["lr"] / settings.optimizer.lr)
    assert rates == pytest.approx([1, 1, 1, 1, 1, 0.1, 0.1, 0.05, 0.05])


def test_the_learner_passes_all_settings_to_adam(data):
    settings = TINY.having(beta1=0.8, beta2=0.9, eps=1e-3, weight_decay=0.3, lr=0.01)
    (group,) = Learner(fresh_model(data), settings, steps=10).optimizer.param_groups
    assert (group["lr"], group["betas"]) == (0.01, (0.8, 0.9))
    assert (group["eps"], group["weight_decay"]) == (1e-3, 0.3)


@pytest.mark.parametrize("accumulate", [1, 3])
def test_with_a_teacher_the_gradient_is_the_mean_of_both(data, accumulate):
    settings = TINY.having(accumulate=accumulate, label_smoothing=0.1)
    teacher = fresh_model(data, TINY.having(seed=7, hidden_size=12))
    learner = Learner(fresh_model(data), settings, steps=1, teacher=teacher)
    batch = collate(data.pairs.train[:16])
    inputs = batch.src, batch.src_lens, batch.trg_in
    loss, tokens = learner.backward(batch)
    hard_model, soft_model = fresh_model(data), fresh_model(data)
    hard = smoothed_cross_entropy(hard_model(*inputs)[0], batch.trg_out, 0.1)
    soft = soft_cross_entropy(soft_model(*inputs)[0], teacher(*inputs)[0].detach(), batch.trg_out)
    assert loss == pytest.approx((hard + soft).item() / 2, rel=1e-12)
    (hard / tokens).backward()
    (soft / tokens).backward()
    both = zip(gradients(hard_model), gradients(soft_model), strict=True)
    assert largest_difference(gradients(learner.model), [(a + b) / 2 for a, b in both]) <= 1e-12
    assert largest_difference(gradients(hard_model), gradients(soft_model)) > 1e-3
    assert gradients(teacher) == [None] * len(gradients(teacher))


def test_sgd_is_torchs_own_with_momentum(data):
    changes = {"momentum": 0.8, "weight_decay": 0.01, "max_norm": 1e9, "schedule": "plateau"}
    settings = TINY.having(optimizer="sgd", lr=0.3, **changes)
    learner, model = Learner(fresh_model(data), settings, steps=10), fresh_model(data)
    reference = torch.optim.SGD(model.parameters(), 0.3, momentum=0.8, weight_decay=0.01)
    for start in (0, 16, 32):
        batch = collate(data.pairs.train[start : start + 16])
        learner.step(batch)
        logits, _ = model(batch.src, batch.src_lens, batch.trg_in)
        total, count = masked_cross_entropy(logits, batch.trg_out)
        reference.zero_grad()
        (total / count).backward()
        reference.step()
        snap_to_grid(model)
    assert largest_difference(snapshot(learner.model), snapshot(model)) == 0


def test_a_lesson_is_not_resumed_without_its_teacher(data):
    taught = Learner(fresh_model(data), TINY, 1, teacher=fresh_model(data))
    alone = Learner(fresh_model(data), TINY, 1)
    with pytest.raises(ValueError, match="had a teacher"):
        alone.load_state_dict(taught.state_dict())
    with pytest.raises(ValueError, match="had no teacher"):
        taught.load_state_dict(alone.state_dict())


def test_the_loss_of_a_step_is_the_smoothed_one(data):
    settings = TINY.having(label_smoothing=0.5)
    model, batch = fresh_model(data), collate(data.pairs.train[:16])
    loss, _ = Learner(fresh_model(data), settings, steps=1).backward(batch)
    logits, _ = model(batch.src, batch.src_lens, batch.trg_in)
    smoothed = smoothed_cross_entropy(logits, batch.trg_out, 0.5)
    assert loss == pytest.approx(smoothed.item(), rel=1e-12)


def test_the_learning_rate_rises_before_it_falls(data):
    settings = TINY.having(warmup=4, lr=0.01, lr_floor=0.1)
    learner, batch = Learner(fresh_model(data), settings, steps=12), collate(data.pairs.train[:4])
    rates = [learner.step(batch).lr for _ in range(13)]
    assert rates[:5] == pytest.approx([0.01 * i / 5 for i in (1, 2, 3, 4, 5)])
    assert rates[4:] == sorted(rates[4:], reverse=True) and rates[-1] == pytest.approx(0.001)
    other = Learner(fresh_model(data), settings, steps=12)
    other.load_state_dict(learner.state_dict())
    assert other.step(batch).lr == learner.step(batch).lr


@pytest.mark.parametrize("accumulate", [1, 3, 40])
def test_parts_of_a_batch_without_logits(data, accumulate):
    settings = TINY.having(output="tied", label_smoothing=0.1)
    results = []
    for run in (settings, settings.having(accumulate=accumulate)):
        torch.manual_seed(0)
        model = run.model.build(len(data.vocab), len(data.trg_vocab))
        learner = Learner(model, run, steps=1)
        loss, _ = learner.backward(collate(data.pairs.train[:16]))
        results.append([torch.tensor(loss), *gradients(model)])
    assert largest_difference(*results) < 1e-12
