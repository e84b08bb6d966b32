"""Loss, step and loop of the assignment: small runs that come out as computed by other means."""

import math

import pytest
import torch
import torch.nn.functional as F

from helpers.data import PAD, batches, collate
from helpers.decoding import decode, greedy_exact_match
from helpers.optim import Adam
from helpers.tests.tiny import fresh_model, largest_difference, tiny_data
from helpers.training import (
    epoch_line,
    is_best,
    masked_cross_entropy,
    mean_loss,
    save_best,
    set_up,
    snap_to_grid,
    train,
    train_step,
)


@pytest.fixture(scope="module")
def data():
    return tiny_data()


def gradients(model):
    return [param.grad for param in model.parameters()]


def snapshot(model):
    return [param.detach().clone() for param in model.parameters()]


def record(epoch, valid_loss, score=0.5):
    return {
        "epoch": epoch,
        "train loss": 2.0,
        "valid loss": valid_loss,
        "valid exact match": score,
    }


def answers(*losses):
    """A `measure` that says these validation losses, one after the other."""
    rest = iter(losses)
    return lambda: {"valid loss": next(rest), "valid exact match": 0.5}


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_the_seed_decides_all_random_numbers_and_there_is_one_thread(dtype):
    numbers = []
    for seed in (3, 3, 4):
        torch.set_num_threads(2)
        set_up(seed, dtype)
        numbers.append(torch.rand(5))
    assert torch.get_num_threads() == 1 and numbers[0].dtype == dtype
    assert numbers[0].equal(numbers[1]) and not numbers[0].equal(numbers[2])
    set_up()
    assert torch.get_default_dtype() == torch.float64


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


def test_mean_loss_weighs_tokens_not_batches(data):
    model = fresh_model(data)
    pairs = data.pairs.valid[:50]
    losses = [mean_loss(model, pairs, batch_size) for batch_size in (1, 7, 50)]
    assert losses == pytest.approx([losses[0]] * 3, rel=1e-12)
    with pytest.raises(ValueError, match="no pairs"):
        mean_loss(model, [])


def test_the_first_loss_is_that_of_knowing_nothing(data):
    loss = mean_loss(fresh_model(data), data.pairs.valid)
    assert loss == pytest.approx(math.log(len(data.vocab)), abs=0.05)


def test_snapping_removes_what_another_machine_rounds_differently(data):
    model, other = fresh_model(data), fresh_model(data)
    for param in other.parameters():
        param.data.mul_(1 + 1e-13 * torch.randn_like(param))
    snap_to_grid(model)
    snap_to_grid(other)
    for mine, theirs in zip(model.parameters(), other.parameters(), strict=True):
        assert mine.equal(theirs) and (mine * 2**20 % 1 == 0).all()
    assert largest_difference(snapshot(model), snapshot(fresh_model(data))) <= 2**-21


def test_snapping_leaves_float32_alone(data):
    model = fresh_model(data).float()
    before = snapshot(model)
    snap_to_grid(model)
    assert largest_difference(snapshot(model), before) == 0


def test_the_gradient_of_a_step_is_that_of_the_mean_loss_per_token(data):
    model, reference = fresh_model(data), fresh_model(data)
    batch = collate(data.pairs.train[:16])
    still = torch.optim.SGD(model.parameters(), lr=0.0)
    for _ in range(2):  # what the first step has left does not count in the second
        loss, tokens = train_step(model, batch, still, max_norm=1e9)
    logits, _ = reference(batch.src, batch.src_lens, batch.trg_in)
    real = batch.trg_out != PAD
    mean = F.cross_entropy(logits[real], batch.trg_out[real])
    mean.backward()
    assert tokens == real.sum() == sum(len(trg) + 1 for _, trg in data.pairs.train[:16])
    assert loss == pytest.approx(mean.item() * tokens, rel=1e-12)
    assert largest_difference(gradients(model), gradients(reference)) <= 1e-12


@pytest.mark.parametrize("flags, norm", [({}, 1.0), ({"max_norm": 0.1}, 0.1)])
def test_a_step_clips_the_gradient_before_it_is_used(data, flags, norm):
    model = fresh_model(data)
    with torch.no_grad():
        model.decoder.output.weight.mul_(30)  # so that the gradient is long
    before = snapshot(model)
    train_step(
        model, collate(data.pairs.train[:16]), torch.optim.SGD(model.parameters(), 1), **flags
    )
    assert torch.cat([grad.flatten() for grad in gradients(model)]).norm() == pytest.approx(norm)
    moved = zip(before, snapshot(model), strict=True)
    assert torch.cat([(a - b).flatten() for a, b in moved]).norm() == pytest.approx(norm)


def test_the_loop_equals_one_made_of_the_parts_of_torch(data):
    model, reference = fresh_model(data), fresh_model(data)
    optimizer = Adam(model.parameters(), lr=0.02)
    history = train(
        lambda batch: train_step(model, batch, optimizer, max_norm=0.5),
        lambda epoch: batches(data.pairs.train, 16, 1, epoch),
        lambda: {"valid loss": mean_loss(model, data.pairs.valid)},
        epochs=2,
    )
    adam = torch.optim.Adam(reference.parameters(), lr=0.02)
    train_losses = []
    for epoch in (1, 2):
        losses = []
        for batch in batches(data.pairs.train, 16, 1, epoch):
            logits, _ = reference(batch.src, batch.src_lens, batch.trg_in)
            real = batch.trg_out != PAD
            loss = F.cross_entropy(logits[real], batch.trg_out[real])
            adam.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(reference.parameters(), 0.5)
            adam.step()
            losses += [loss.item()] * int(real.sum())
        train_losses.append(sum(losses) / len(losses))
    assert largest_difference(snapshot(model), snapshot(reference)) <= 1e-9
    assert [line["train loss"] for line in history] == pytest.approx(train_losses, rel=1e-9)
    assert history[-1]["valid loss"] == mean_loss(model, data.pairs.valid)


def test_the_loop_asks_for_each_epoch_and_weighs_tokens():
    """Two batches an epoch, of 1 and of 9 tokens; what a step says beyond that is ignored."""
    asked, steps = [], []

    def epoch_batches(epoch):
        asked.append(epoch)
        return [(float(epoch), 1), (0.0, 9)]

    def step(batch):
        steps.append(batch)
        return *batch, "more"

    history = train(step, epoch_batches, lambda: {"valid loss": len(steps), "more": 7}, epochs=3)
    assert asked == [1, 2, 3] and len(steps) == 6
    assert history == [
        {"epoch": i, "train loss": i / 10, "valid loss": 2 * i, "more": 7} for i in (1, 2, 3)
    ]


def nothing(epoch):
    return [None]


def one_token(batch):
    return 1.0, 1


def test_observers_see_each_epoch_once_with_the_whole_history():
    seen = []
    observers = [lambda h: seen.append(("a", len(h))), lambda h: seen.append(("b", h[-1]["epoch"]))]
    history = train(one_token, nothing, answers(3.0, 2.0, 1.0), 3, observers)
    assert seen == [(name, epoch) for epoch in (1, 2, 3) for name in "ab"]
    assert [line["valid loss"] for line in history] == [3.0, 2.0, 1.0]


@pytest.mark.parametrize("first, epochs", [(True, 2), (False, 4), (None, 4), ("yes", 4)])
def test_an_observer_that_answers_true_ends_the_training(first, epochs):
    seen = []
    observers = [lambda h: first if len(h) == 2 else None, lambda h: seen.append(len(h))]
    assert len(train(one_token, nothing, answers(4.0, 3.0, 2.0, 1.0), 4, observers)) == epochs
    assert seen == list(range(1, epochs + 1)), "the others still hear of the last epoch"


def test_the_history_goes_on_in_place():
    begun, asked = [record(1, 3.0), record(2, 2.0)], []

    def epoch_batches(epoch):
        asked.append(epoch)
        return [None]

    history = train(one_token, epoch_batches, answers(1.0, 0.5), 4, history=begun)
    assert history is begun and asked == [3, 4]
    assert [line["epoch"] for line in history] == [1, 2, 3, 4]
    assert train(one_token, epoch_batches, answers(), 4, history=begun) is begun
    assert asked == [3, 4], "nothing is left to do"


@pytest.mark.parametrize("loss", [math.nan, math.inf])
def test_a_loss_that_is_no_number_stops_the_training(loss):
    steps, seen = iter([(1.0, 1)] * 3 + [(loss, 1)]), []
    with pytest.raises(FloatingPointError, match=f"^loss {loss} in epoch 2, batch 2: try a lower"):
        train(lambda _: next(steps), lambda _: "ab", answers(3.0, 2.0), 5, [seen.append])
    assert len(seen) == 1


def test_a_validation_loss_that_is_no_number_is_shown_to_nobody():
    seen = []
    with pytest.raises(FloatingPointError, match="no finite validation loss in epoch 2"):
        train(one_token, nothing, answers(3.0, math.nan), 5, [lambda h: seen.append(len(h))])
    assert seen == [1]


def test_the_best_epoch_is_that_of_the_lowest_loss_the_first_of_equals():
    history = [record(i, loss) for i, loss in enumerate((3.0, 1.0, 2.0, 1.0, 0.5), start=1)]
    best = [is_best(history[:epoch]) for epoch in (1, 2, 3, 4, 5)]
    assert best == [True, True, False, False, True]


def test_a_line_tells_both_losses_and_the_exact_match():
    history = [record(1, 0.25, 0.98765), record(2, 1 / 3, 1.0)]
    first = (
        "epoch  1   train loss 2.000000   valid loss 0.250000   valid exact match  98.77%   best"
    )
    second = "epoch  2   train loss 2.000000   valid loss 0.333333   valid exact match 100.00%"
    assert [epoch_line(history[:1]), epoch_line(history)] == [first, second]


def test_only_the_best_epoch_is_saved(data, tmp_path):
    """Validation losses 3, 1, 2: the second epoch is the best, the last is not."""
    model, path, kept = fresh_model(data), tmp_path / "deep" / "best.pt", []
    optimizer = Adam(model.parameters())

    def step(batch):
        return train_step(model, batch, optimizer)

    def keep(history):
        kept.append((model.decoder.output.weight.detach().clone(), path.read_bytes()))

    observers = [save_best(model, data.vocab, path), keep]
    few = [collate(data.pairs.train[:16])]
    history = train(step, lambda epoch: few, answers(3.0, 1.0, 2.0), 3, observers)
    saved = torch.load(path, weights_only=True)
    assert set(saved) == {"parameters", "words", "history"}
    assert saved["history"] == history[:2] and saved["words"] == data.vocab.words
    (first, _), (second, written), (third, rest) = kept
    assert saved["parameters"]["decoder.output.weight"].equal(second)
    assert not second.equal(first) and not second.equal(third) and written == rest
    other = fresh_model(data)
    other.load_state_dict(saved["parameters"])
    assert other.decoder.output.weight.equal(second)


def test_one_batch_is_learned_by_heart(data):
    model, batch = fresh_model(data), collate(data.pairs.train[:8])
    optimizer = Adam(model.parameters(), lr=0.03)
    losses = [train_step(model, batch, optimizer)[0] for _ in range(150)]
    assert losses[-1] < 0.05 * losses[0]
    assert greedy_exact_match(model, data.pairs.train[:8]) == 1


def test_an_untrained_model_gets_nothing_right(data):
    assert greedy_exact_match(fresh_model(data), data.pairs.valid) < 0.02


def test_the_exact_match_is_that_of_what_the_model_writes_itself(monkeypatch):
    data = tiny_data()
    model, sources = fresh_model(data), [[4, 5], [6], [5, 5, 4]]
    pairs = [(src, answer.ids) for src, answer in zip(sources, decode(model, sources), strict=True)]
    monkeypatch.setattr(model, "forward", None)  # with teacher forcing it cannot be called
    assert greedy_exact_match(model, pairs) == 1
    assert greedy_exact_match(model, [*pairs, ([4], [4] * 99)]) == 0.75
