"""Loss and loop: small runs that must come out as computed by other means."""

import dataclasses
import math

import pytest
import torch
import torch.nn.functional as F
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from helpers import checkpoint
from helpers.data import PAD, batches
from helpers.decoding import decode
from helpers.device import set_up
from helpers.learner import Learner
from helpers.tests.tiny import TINY, fresh_model, largest_difference, silent, tiny_task
from helpers.training import forcing_in, greedy_exact_match, is_over, mean_loss, train, train_apart


@pytest.fixture(scope="module")
def task():
    return tiny_task()


def test_mean_loss_weighs_tokens_not_batches(task):
    model = fresh_model(task)
    pairs = task.pairs.valid[:50]
    losses = [mean_loss(model, pairs, batch_size) for batch_size in (1, 7, 50)]
    assert losses == pytest.approx([losses[0]] * 3, rel=1e-12)


def test_the_first_loss_is_that_of_knowing_nothing(task):
    loss = mean_loss(fresh_model(task), task.pairs.valid)
    assert loss == pytest.approx(torch.tensor(float(len(task.vocab))).log().item(), abs=0.3)


def test_training_is_repeatable_and_reports_what_it_returns(task):
    lines = []
    model, twin = fresh_model(task), fresh_model(task)
    history = train(model, task, TINY, report=lines.append)
    assert train(twin, task, TINY, report=silent) == history
    assert all(a.equal(b) for a, b in zip(model.parameters(), twin.parameters(), strict=True))
    assert len(lines) == TINY.epochs == len(history)
    for line, record in zip(lines, history, strict=True):
        assert f"train loss {record['train loss']:.6f}" in line
        assert f"valid loss {record['valid loss']:.6f}" in line
    assert history[-1]["valid loss"] < history[0]["valid loss"]


def test_the_loop_equals_one_made_of_the_parts_of_torch(task):
    model, reference = fresh_model(task), fresh_model(task)
    config = dataclasses.replace(TINY, epochs=2, lr=0.02, beta2=0.9, max_norm=0.5)
    history = train(model, task, config, report=silent)

    steps = -(-len(task.pairs.train) // config.batch_size)
    adam = torch.optim.Adam(reference.parameters(), betas=(0.9, 0.9))
    done, train_losses = 0, []
    for epoch in (1, 2):
        losses = []
        for batch in batches(task.pairs.train, config.batch_size, config.seed, epoch):
            progress = done / (2 * steps)
            share = 0.02 + 0.98 * (1 + math.cos(math.pi * progress)) / 2
            adam.param_groups[0]["lr"] = 0.02 * share
            logits, _ = reference(batch.src, batch.src_lens, batch.trg_in)
            loss = F.cross_entropy(
                logits[batch.trg_out != PAD], batch.trg_out[batch.trg_out != PAD]
            )
            adam.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(reference.parameters(), 0.5)
            adam.step()
            with torch.no_grad():
                for weight in reference.parameters():
                    weight.copy_((weight * 2**20).round() / 2**20)
            losses += [loss.item()] * int((batch.trg_out != PAD).sum())
            done += 1
        train_losses.append(sum(losses) / len(losses))
    for mine, other in zip(model.parameters(), reference.parameters(), strict=True):
        torch.testing.assert_close(mine, other, rtol=0, atol=1e-5)
    assert [record["train loss"] for record in history] == pytest.approx(train_losses, rel=1e-6)
    assert history[-1]["valid loss"] == mean_loss(model, task.pairs.valid)
    assert history[-1]["valid exact match"] == greedy_exact_match(model, task.pairs.valid)


def test_on_epoch_is_called_before_and_after(task):
    epochs = []
    train(fresh_model(task), task, TINY, report=silent, on_epoch=epochs.append)
    assert epochs == [0, 1, 2, 3]


def test_the_best_epoch_is_saved(task, tmp_path, monkeypatch):
    """Validation losses 3, 1, 2: the second epoch is the best, the last is not."""
    losses = iter([3.0, 1.0, 2.0])
    weights = {}
    model = fresh_model(task)

    def keep(epoch):
        weights[epoch] = model.decoder.output.weight.detach().clone()

    monkeypatch.setattr("helpers.training.mean_loss", lambda *args: next(losses))
    folder = tmp_path / "deep"
    train(model, task, TINY, folder, report=silent, on_epoch=keep)
    best, last = (checkpoint.load(folder / name) for name in ("best.pt", "last.pt"))
    assert [record["epoch"] for record in best.history] == [1, 2]
    assert best.model.decoder.output.weight.equal(weights[2])
    assert [record["epoch"] for record in last.history] == [1, 2, 3]
    assert last.model.decoder.output.weight.equal(weights[3]) and not weights[3].equal(weights[2])
    assert best.config == TINY and best.vocab.words == task.vocab.words


def test_a_run_that_fails_leaves_the_old_checkpoints(task, tmp_path):
    old = {tmp_path / name: name.encode() for name in ("best.pt", "last.pt", "epoch-001.pt")}
    for path, content in old.items():
        path.write_bytes(content)

    def interrupt(epoch):
        if epoch == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(fresh_model(task), task, TINY, tmp_path, report=silent, on_epoch=interrupt)
    assert {path: path.read_bytes() for path in old} == old


def test_a_run_apart_says_and_leaves_the_same(task, tmp_path):
    reported = []
    train(fresh_model(task), task, TINY, tmp_path / "here", report=reported.append)
    lines, seconds = train_apart(TINY, tmp_path / "apart")
    assert lines == reported and seconds > 0
    here, apart = (checkpoint.load(tmp_path / name / "best.pt") for name in ("here", "apart"))
    assert largest_difference(here.model.parameters(), apart.model.parameters()) == 0


def test_a_loss_that_is_no_number_stops_the_run(task):
    model = fresh_model(task)
    model.decoder.output.bias.data.fill_(torch.nan)
    with pytest.raises(FloatingPointError, match="epoch 1, batch 1 of"):
        train(model, task, TINY, report=silent)


def test_a_model_that_breaks_in_the_last_step_is_not_saved(task, tmp_path, monkeypatch):
    losses = iter([3.0, math.nan])
    monkeypatch.setattr("helpers.training.mean_loss", lambda *args: next(losses))
    with pytest.raises(FloatingPointError, match="validation loss nan in epoch 2"):
        train(fresh_model(task), task, TINY, tmp_path, report=silent)
    assert len(checkpoint.latest(tmp_path).history) == 1


def test_gradients_that_always_overflow_stop_the_run(task):
    set_up(TINY.seed, device="cuda")  # float32
    model = fresh_model(task).float()
    model.decoder.output.bias.register_hook(lambda grad: grad * torch.inf)
    with pytest.raises(FloatingPointError, match="the gradient overflows in epoch 3, batch"):
        train(model, task, dataclasses.replace(TINY, amp=True), report=silent)


def test_clipping_is_part_of_the_loop(task, monkeypatch):
    norms = []

    def spy(params, max_norm):
        norms.append(max_norm)
        return torch.tensor(1.0)

    monkeypatch.setattr("helpers.learner.clip_grad_norm", spy)
    train(fresh_model(task), task, TINY, report=silent)
    assert norms and set(norms) == {TINY.max_norm}


def test_training_stops_when_the_exact_match_no_longer_rises(task, monkeypatch):
    scores = iter([0.1, 0.3, 0.2, 0.3, 0.9])
    monkeypatch.setattr("helpers.training.greedy_exact_match", lambda *args: next(scores))
    config = dataclasses.replace(TINY, epochs=5, patience=2)
    lines = []
    history = train(fresh_model(task), task, config, report=lines.append)
    assert [record["valid exact match"] for record in history] == [0.1, 0.3, 0.2, 0.3]
    assert lines[4:] == ["stopped: the exact match has not risen for 2 epochs"]


def test_without_patience_training_goes_on():
    record = {"valid exact match": 0.5}
    assert not is_over([record] * 4, dataclasses.replace(TINY, epochs=5))
    assert is_over([record] * 5, dataclasses.replace(TINY, epochs=5))


def test_a_plateau_lowers_the_learning_rate_of_the_next_epoch(task, monkeypatch):
    losses = iter([3.0, 3.0, 2.0])
    monkeypatch.setattr("helpers.training.mean_loss", lambda *args: next(losses))
    config = dataclasses.replace(TINY, schedule="plateau", plateau_patience=0, plateau_factor=0.25)
    history = train(fresh_model(task), task, config, report=silent)
    rates = [record["lr"] / config.lr for record in history]
    assert rates == pytest.approx([1, 1, 0.25])


def test_the_cosine_reaches_its_floor_with_the_last_step(task):
    config = dataclasses.replace(TINY, lr_floor=0.1)
    history = train(fresh_model(task), task, config, report=silent)
    rates = [record["lr"] / config.lr for record in history]
    assert rates == pytest.approx([0.775, 0.325, 0.1], abs=0.04)


def test_the_share_of_true_words_follows_a_line(task, monkeypatch):
    shares = []
    step = Learner.step

    def spy(self, batch, forcing):
        shares.append(forcing)
        return step(self, batch, forcing)

    monkeypatch.setattr(Learner, "step", spy)
    config = dataclasses.replace(TINY, teacher_forcing=1.0, teacher_forcing_end=0.5)
    train(fresh_model(task), task, config, report=silent)
    assert list(dict.fromkeys(shares)) == [1.0, 0.75, 0.5]
    assert forcing_in(1, dataclasses.replace(config, epochs=1)) == 1.0
    assert forcing_in(3, dataclasses.replace(TINY, teacher_forcing=0.3)) == 0.3


def test_curves_and_attention_are_logged(task, tmp_path):
    history = train(fresh_model(task), task, TINY, log_dir=tmp_path, report=silent)
    steps = -(-len(task.pairs.train) // TINY.batch_size)
    events = EventAccumulator(str(tmp_path)).Reload()
    curves = {tag: events.Scalars(tag) for tag in events.Tags()["scalars"]}
    per_step = {"train/loss", "train/learning rate"}
    per_step |= {"train/gradient norm", "train/gradient norm, clipped"}
    assert set(curves) == per_step | {"valid/loss", "valid/exact match"}
    for tag in per_step:
        assert [point.step for point in curves[tag]] == list(range(1, 3 * steps + 1))
    for tag in set(curves) - per_step:
        assert [point.step for point in curves[tag]] == [steps, 2 * steps, 3 * steps]
    logged = [point.value for point in curves["valid/loss"]]
    assert logged == pytest.approx([record["valid loss"] for record in history], rel=1e-6)
    assert max(point.value for point in curves["train/gradient norm, clipped"]) <= TINY.max_norm
    assert [image.step for image in events.Images("attention")] == [steps, 2 * steps, 3 * steps]


def points(log_dir, tag):
    scalars = EventAccumulator(str(log_dir)).Reload().Scalars(tag)
    return [(point.step, point.value) for point in scalars]


def test_no_step_appears_twice_in_the_curves(task, tmp_path, monkeypatch):
    """Not after a run that was broken off within an epoch, and not after one that begins anew."""
    train(fresh_model(task), task, TINY, log_dir=tmp_path / "whole", report=silent)
    steps, step = iter(range(30)), Learner.step

    def break_off(*args):
        if next(steps, None) is None:
            raise KeyboardInterrupt
        return step(*args)

    folders = {"folder": tmp_path / "run", "log_dir": tmp_path / "parts", "report": silent}
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Learner, "step", break_off)
        train(fresh_model(task), task, TINY, **folders)
    train(fresh_model(task), task, TINY, saved=checkpoint.latest(tmp_path / "run"), **folders)
    for tag in ("train/loss", "valid/loss"):
        assert points(tmp_path / "parts", tag) == points(tmp_path / "whole", tag)
    train(fresh_model(task), task, TINY, **folders)
    assert points(tmp_path / "parts", "train/loss") == points(tmp_path / "whole", "train/loss")


@pytest.mark.parametrize("bucket", [True, False])
def test_the_loop_buckets_or_not_as_it_is_told(task, monkeypatch, bucket):
    asked = []

    def spy(*args):
        asked.append(args[-1])
        return batches(*args)

    monkeypatch.setattr("helpers.training.batches", spy)
    config = dataclasses.replace(TINY, epochs=1)
    train(fresh_model(task), task, config, bucket=bucket, report=silent)
    assert asked == [bucket]


def test_the_integer_task_is_learned_by_the_same_loop():
    sizes = {"emb_size": 16, "hidden_size": 16, "attn_size": 16, "lr": 0.02, "epochs": 8}
    data = {"vocab_size": 8, "max_length": 4, "per_length": 300}
    config = dataclasses.replace(TINY, **sizes, **data)
    task = tiny_task(config)
    history = train(fresh_model(task, config), task, config, report=silent)
    assert history[-1]["valid exact match"] > 0.8


def test_dropout_is_at_work_in_every_step_and_in_nothing_else(task):
    config = dataclasses.replace(TINY, model="location", dropout=0.1, epochs=2)
    model, calls = fresh_model(task, config), []
    model.register_forward_hook(lambda *_: calls.append((model.training, torch.is_grad_enabled())))
    train(model, task, config, report=silent)
    assert set(calls) == {(True, True), (False, False)} and not model.training


def test_dropout_in_parts_of_a_batch_is_refused(task):
    config = dataclasses.replace(TINY, model="location", dropout=0.1, accumulate=2)
    with pytest.raises(ValueError, match="dropout needs whole batches"):
        Learner(fresh_model(task, config), config, steps=1)


def test_an_untrained_model_gets_nothing_right(task):
    assert greedy_exact_match(fresh_model(task), task.pairs.valid) < 0.02


def test_the_exact_match_is_that_of_what_the_model_writes_itself(monkeypatch):
    task = tiny_task()
    model, sources = fresh_model(task), [[4, 5], [6], [5, 5, 4]]
    pairs = [(src, answer.ids) for src, answer in zip(sources, decode(model, sources), strict=True)]
    monkeypatch.setattr(model, "forward", None)  # with teacher forcing it cannot be called
    assert greedy_exact_match(model, pairs) == 1
    assert greedy_exact_match(model, [*pairs, ([4], [4] * 99)]) == 0.75
