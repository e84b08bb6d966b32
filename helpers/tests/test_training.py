"""Loss, loop, checkpoint: small runs that must come out as computed by other means."""

import dataclasses
import math

import pytest
import torch
import torch.nn.functional as F

from helpers import checkpoint
from helpers.config import Config
from helpers.data import PAD, batches, reversal_task
from helpers.model import build_model
from helpers.training import (
    greedy_exact_match,
    masked_cross_entropy,
    mean_loss,
    set_up,
    snap_to_grid,
    train,
)

TINY = Config(per_length=30, emb_size=8, hidden_size=8, attn_size=8, epochs=3, batch_size=16)


@pytest.fixture
def task():
    set_up(TINY.seed)
    return reversal_task(TINY)


def fresh_model(task):
    set_up(TINY.seed)
    return build_model(TINY, len(task.vocab))


def silent(line):
    pass


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


def test_snapping_removes_what_another_machine_rounds_differently(task):
    model, other = fresh_model(task), fresh_model(task)
    for weight in other.parameters():
        weight.data.mul_(1 + 1e-13 * torch.randn_like(weight))
    snap_to_grid(model)
    snap_to_grid(other)
    for mine, theirs in zip(model.parameters(), other.parameters(), strict=True):
        assert mine.equal(theirs) and (mine * 2**20 % 1 == 0).all()
    original = fresh_model(task)
    for mine, before in zip(model.parameters(), original.parameters(), strict=True):
        assert (mine - before).abs().max() <= 2**-21


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
    path = tmp_path / "deep" / "best.pt"
    train(model, task, TINY, path, report=silent, on_epoch=keep)
    saved = checkpoint.load(path)
    assert [record["epoch"] for record in saved.history] == [1, 2]
    assert saved.model.decoder.output.weight.equal(weights[2])
    assert not saved.model.decoder.output.weight.equal(weights[3])
    assert saved.config == TINY and saved.vocab.words == task.vocab.words
    assert [file.name for file in path.parent.iterdir()] == ["best.pt"]


def test_a_run_that_fails_leaves_the_old_checkpoint(task, tmp_path):
    path = tmp_path / "best.pt"
    path.write_bytes(b"precious")

    def interrupt(epoch):
        if epoch == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(fresh_model(task), task, TINY, path, report=silent, on_epoch=interrupt)
    assert path.read_bytes() == b"precious"


def test_a_loss_that_is_no_number_stops_the_run(task):
    model = fresh_model(task)
    model.decoder.output.bias.data.fill_(torch.nan)
    with pytest.raises(FloatingPointError, match="epoch 1"):
        train(model, task, TINY, report=silent)


def test_a_model_that_breaks_in_the_last_step_is_not_saved(task, tmp_path, monkeypatch):
    path = tmp_path / "best.pt"
    path.write_bytes(b"precious")
    monkeypatch.setattr("helpers.training.mean_loss", lambda *args: math.nan)
    with pytest.raises(FloatingPointError, match="epoch 1"):
        train(fresh_model(task), task, TINY, path, report=silent)
    assert path.read_bytes() == b"precious"


def test_clipping_is_part_of_the_loop(task, monkeypatch):
    norms = []

    def spy(params, max_norm):
        norms.append(max_norm)

    monkeypatch.setattr("helpers.training.clip_grad_norm", spy)
    train(fresh_model(task), task, TINY, report=silent)
    assert norms and set(norms) == {TINY.max_norm}


def test_a_loaded_model_gives_the_same_answers(task, tmp_path):
    path = tmp_path / "best.pt"
    model = fresh_model(task)
    checkpoint.save(path, checkpoint.Checkpoint(model, task.vocab, TINY, [], None, ""))
    loaded = checkpoint.load(path)
    assert loaded.history == [] and loaded.corpus is None
    assert mean_loss(loaded.model, task.pairs.valid) == mean_loss(model, task.pairs.valid)


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"PK\x03\x04 broken"])
def test_foreign_files_are_refused(tmp_path, content):
    path = tmp_path / "best.pt"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="damaged"):
        checkpoint.load(path)


def test_truncated_and_foreign_checkpoints_are_refused(task, tmp_path):
    path = tmp_path / "best.pt"
    checkpoint.save(path, checkpoint.Checkpoint(fresh_model(task), task.vocab, TINY, [], None, ""))
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match="damaged"):
        checkpoint.load(path)
    path.write_bytes(whole)
    content = torch.load(path, weights_only=True)
    torch.save(content | {"format": "another"}, path)
    with pytest.raises(ValueError, match="damaged"):
        checkpoint.load(path)
    del content["history"]
    torch.save(content, path)
    with pytest.raises(ValueError, match="damaged"):
        checkpoint.load(path)
    torch.save({"weights": torch.zeros(2)}, path)
    with pytest.raises(ValueError, match="not a checkpoint"):
        checkpoint.load(path)
    with pytest.raises(FileNotFoundError, match="make one"):
        checkpoint.load(tmp_path / "none.pt")


def test_a_checkpoint_cannot_run_code(tmp_path):
    class Trap:
        def __reduce__(self):
            return (tmp_path.joinpath("sprung").touch, ())

    path = tmp_path / "best.pt"
    torch.save({"format": checkpoint.FORMAT, "weights": Trap()}, path)
    with pytest.raises(ValueError, match="damaged"):
        checkpoint.load(path)
    assert not (tmp_path / "sprung").exists()


def test_an_untrained_model_gets_nothing_right(task):
    assert greedy_exact_match(fresh_model(task), task.pairs.valid) < 0.02
