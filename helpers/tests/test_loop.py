"""The loop for long runs: what it reports, saves and draws, when it stops, who watches it."""

import io
import math
import os

import pytest
import torch
import torch.nn.functional as F
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from helpers.data import PAD, batches
from helpers.decoding import greedy_exact_match
from helpers.runs import checkpoint, loop
from helpers.runs.device import hand_back_memory
from helpers.runs.logs import Log
from helpers.runs.loop import Run, fit, fit_apart, is_over, prepare
from helpers.runs.settings import Settings
from helpers.runs.step import Learner
from helpers.tests.tiny import TINY, fresh_model, largest_difference, silent, tiny_data
from helpers.training import epoch_line, mean_loss


@pytest.fixture(scope="module")
def data():
    return tiny_data()


def tiny_run(data, settings=TINY, **options):
    return Run(fresh_model(data, settings), data, settings, **options)


def answers(monkeypatch, losses=None, scores=None):
    """Makes validation say these losses or scores, one an epoch, instead of measuring them."""
    measure = Run.measure
    rest = {"valid loss": iter(losses or []), "valid exact match": iter(scores or [])}

    def say(run):
        record = measure(run)
        for name, values in rest.items():
            record[name] = next(values, record[name])
        return record

    monkeypatch.setattr(Run, "measure", say)


def test_training_is_repeatable_and_reports_what_it_returns(data):
    lines = []
    run, twin = tiny_run(data), tiny_run(data)
    history = fit(run, report=lines.append)
    assert fit(twin, report=silent) == history
    both = zip(run.model.parameters(), twin.model.parameters(), strict=True)
    assert all(a.equal(b) for a, b in both)
    assert len(lines) == TINY.run.epochs == len(history)
    for line, record in zip(lines, history, strict=True):
        assert f"train loss {record['train loss']:.6f}" in line
        assert f"valid loss {record['valid loss']:.6f}" in line
    assert history[-1]["valid loss"] < history[0]["valid loss"] and run.history is history


def test_the_loop_equals_one_made_of_the_parts_of_torch(data):
    settings = TINY.having(epochs=2, lr=0.02, beta2=0.9, max_norm=0.5)
    run, reference = tiny_run(data, settings), fresh_model(data)
    history = fit(run, report=silent)

    batch_size, seed = settings.run.batch_size, settings.run.seed
    steps = -(-len(data.pairs.train) // batch_size)
    adam = torch.optim.Adam(reference.parameters(), betas=(0.9, 0.9))
    done, train_losses = 0, []
    for epoch in (1, 2):
        losses = []
        for batch in batches(data.pairs.train, batch_size, seed, epoch):
            progress = done / (2 * steps)
            share = 0.02 + 0.98 * (1 + math.cos(math.pi * progress)) / 2
            adam.param_groups[0]["lr"] = 0.02 * share
            logits, _ = reference(batch.src, batch.src_lens, batch.trg_in)
            real = batch.trg_out != PAD
            loss = F.cross_entropy(logits[real], batch.trg_out[real])
            adam.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(reference.parameters(), 0.5)
            adam.step()
            with torch.no_grad():
                for param in reference.parameters():
                    param.copy_((param * 2**20).round() / 2**20)
            losses += [loss.item()] * int(real.sum())
            done += 1
        train_losses.append(sum(losses) / len(losses))
    for mine, other in zip(run.model.parameters(), reference.parameters(), strict=True):
        torch.testing.assert_close(mine, other, rtol=0, atol=1e-5)
    assert [record["train loss"] for record in history] == pytest.approx(train_losses, rel=1e-6)
    loss = mean_loss(run.model, data.pairs.valid)
    assert history[-1]["valid loss"] == pytest.approx(loss, rel=1e-14)
    assert history[-1]["valid exact match"] == greedy_exact_match(run.model, data.pairs.valid)


def test_an_observer_is_called_after_each_epoch_once_it_is_saved(data, tmp_path):
    run, seen = tiny_run(data), []

    def observe(history):
        saved = checkpoint.latest(tmp_path)
        assert saved.history == history is run.history
        assert largest_difference(saved.model.parameters(), run.model.parameters()) == 0
        seen.append(history[-1]["epoch"])

    run.observers.append(observe)
    fit(run, tmp_path, report=silent)
    assert seen == [1, 2, 3]


def test_an_observer_may_end_the_run(data, tmp_path):
    run, lines = tiny_run(data), []
    run.observers.append(lambda history: len(history) == 2)
    assert len(fit(run, tmp_path, report=lines.append)) == len(lines) == 2
    assert len(checkpoint.load(tmp_path / "last.pt").history) == 2


def test_the_best_epoch_is_saved(data, tmp_path, monkeypatch):
    """Validation losses 3, 1, 2: the second epoch is the best, the last is not."""
    answers(monkeypatch, losses=[3.0, 1.0, 2.0])
    run, kept, folder = tiny_run(data), {}, tmp_path / "deep"

    def keep(history):
        kept[len(history)] = run.model.decoder.output.weight.detach().clone()

    run.observers.append(keep)
    fit(run, folder, report=silent)
    best, last = (checkpoint.load(folder / name) for name in ("best.pt", "last.pt"))
    assert [record["epoch"] for record in best.history] == [1, 2]
    assert best.model.decoder.output.weight.equal(kept[2])
    assert [record["epoch"] for record in last.history] == [1, 2, 3]
    assert last.model.decoder.output.weight.equal(kept[3]) and not kept[3].equal(kept[2])
    assert best.settings == TINY and best.vocab.words == data.vocab.words


def test_a_run_that_fails_leaves_the_old_checkpoints(data, tmp_path):
    fit(tiny_run(data, TINY.having(epochs=1, seed=2)), tmp_path, report=silent)
    old = {path: path.read_bytes() for path in tmp_path.glob("*.pt")}
    assert len(old) == 3

    def interrupt(history):
        if len(history) == 2:
            raise KeyboardInterrupt

    run = tiny_run(data)
    run.observers.append(interrupt)
    with pytest.raises(KeyboardInterrupt):
        fit(run, tmp_path, report=silent)
    assert {path: path.read_bytes() for path in old} == old


def test_a_run_apart_says_and_leaves_the_same(data, tmp_path):
    reported = []
    fit(tiny_run(data), tmp_path / "here", report=reported.append)
    lines, seconds = fit_apart(TINY, tmp_path / "apart")
    assert lines == reported and seconds > 0
    here, apart = (checkpoint.load(tmp_path / name / "best.pt") for name in ("here", "apart"))
    assert largest_difference(here.model.parameters(), apart.model.parameters()) == 0


@pytest.mark.parametrize("precision", ["float64", "float32"])
def test_all_is_prepared_in_the_precision_that_is_asked_for(precision):
    data, model = prepare(TINY.having(precision=precision))
    assert {str(param.dtype) for param in model.parameters()} == {f"torch.{precision}"}
    assert torch.get_default_dtype() == getattr(torch, precision)
    again, twin = prepare(TINY.having(precision=precision))
    assert checkpoint.digest(data) == checkpoint.digest(again)
    assert largest_difference(model.parameters(), twin.parameters()) == 0


def test_a_loss_that_is_no_number_stops_the_run(data):
    run = tiny_run(data)
    run.model.decoder.output.bias.data.fill_(torch.nan)
    with pytest.raises(FloatingPointError, match="loss nan in epoch 1, batch 1: try a lower lr"):
        fit(run, report=silent)


def test_a_model_that_breaks_in_the_last_step_is_not_saved(data, tmp_path, monkeypatch):
    answers(monkeypatch, losses=[3.0, math.nan])
    with pytest.raises(FloatingPointError, match="validation loss in epoch 2"):
        fit(tiny_run(data), tmp_path, report=silent)
    assert len(checkpoint.latest(tmp_path).history) == 1


def test_gradients_that_always_overflow_stop_the_run(data):
    settings = TINY.having(precision="float32", amp=True)
    run = tiny_run(data, settings)
    run.model.decoder.output.bias.register_hook(lambda grad: grad * torch.inf)
    steps = run.steps
    with pytest.raises(FloatingPointError) as caught:
        fit(run, report=silent)
    scale_too_small = 16 + 20 + 2  # halvings from 2^16 to below 2^-20, and the step that sees it
    epoch, i = divmod(scale_too_small - 1, steps)
    where = f"epoch {epoch + 1}, batch {i + 1}"
    assert epoch > 0 and str(caught.value) == f"the gradient overflows in {where}: try a lower lr"


def test_clipping_is_part_of_the_loop(data, monkeypatch):
    norms = []

    def spy(params, max_norm):
        norms.append(max_norm)
        return torch.tensor(1.0)

    monkeypatch.setattr("helpers.runs.step.clip_grad_norm", spy)
    fit(tiny_run(data), report=silent)
    assert norms and set(norms) == {TINY.optimizer.max_norm}


def test_training_stops_when_the_exact_match_no_longer_rises(data, monkeypatch):
    answers(monkeypatch, scores=[0.1, 0.3, 0.2, 0.25, 0.9])
    lines = []
    history = fit(tiny_run(data, TINY.having(epochs=5, patience=2)), report=lines.append)
    assert [record["valid exact match"] for record in history] == [0.1, 0.3, 0.2, 0.25]
    assert lines[4:] == ["stopped: the exact match has not risen for 2 epochs"]


def history_of(*scores, losses=None):
    losses = losses or [1.0] * len(scores)
    both = zip(scores, losses, strict=True)
    return [{"valid exact match": score, "valid loss": loss} for score, loss in both]


def test_without_patience_training_goes_on():
    run = TINY.having(epochs=5).run
    assert not is_over([], run)
    assert not is_over(history_of(*[0.5] * 4), run)
    assert is_over(history_of(*[0.5] * 5), run)


@pytest.mark.parametrize(
    "scores, over",
    [
        ([0.5, 0.55, 0.6], True),  # never more than 0.1 above the first
        ([0.5, 0.55], False),
        ([0.5, 0.55, 0.65], False),  # above the first, though not by so much above the second
        ([0.5, 0.65, 0.7, 0.74], True),
        ([0.0, 0.0, 0.2], False),
        ([0.0, 0.05, 0.1], False),  # no plateau begins at 0
        ([0.5, 0.55, 0.6], True),  # more is asked for, not as much
    ],
)
def test_a_rise_of_less_than_the_smallest_difference_is_none(scores, over):
    patient = TINY.having(epochs=9, patience=2)
    assert is_over(history_of(*scores), patient.having(min_delta=0.1).run) == over
    assert not is_over(history_of(*sorted({*scores})), patient.run)


def test_a_smallest_difference_ends_a_run_sooner(data, monkeypatch):
    lengths = []
    for min_delta in (0.0, 0.05):
        with monkeypatch.context() as patch:
            answers(patch, scores=[0.1, 0.3, 0.32, 0.34, 0.36])
            settings = TINY.having(epochs=5, patience=2, min_delta=min_delta)
            lengths.append(len(fit(tiny_run(data, settings), report=silent)))
    assert lengths == [5, 4]


def test_a_plateau_lowers_the_learning_rate_of_the_next_epoch(data, monkeypatch):
    answers(monkeypatch, losses=[3.0, 3.0, 2.0])
    settings = TINY.having(schedule="plateau", plateau_patience=0, plateau_factor=0.25)
    history = fit(tiny_run(data, settings), report=silent)
    rates = [record["lr"] / settings.optimizer.lr for record in history]
    assert rates == pytest.approx([1, 1, 0.25])


def test_the_cosine_reaches_its_floor_with_the_last_step(data):
    settings = TINY.having(lr_floor=0.1)
    history = fit(tiny_run(data, settings), report=silent)
    rates = [record["lr"] / settings.optimizer.lr for record in history]
    assert rates == pytest.approx([0.775, 0.325, 0.1], abs=0.04)


def test_the_share_of_true_words_follows_a_line(data, monkeypatch):
    shares, step = [], Learner.step

    def spy(self, batch):
        shares.append(self.forcing)
        return step(self, batch)

    monkeypatch.setattr(Learner, "step", spy)
    settings = TINY.having(teacher_forcing=1.0, teacher_forcing_end=0.5)
    fit(tiny_run(data, settings), report=silent)
    assert list(dict.fromkeys(shares)) == [1.0, 0.75, 0.5]
    assert settings.having(epochs=1).run.forcing_in(1) == 1.0
    assert TINY.having(teacher_forcing=0.3).run.forcing_in(3) == 0.3


def test_curves_and_attention_are_logged(data, tmp_path):
    history = fit(tiny_run(data), log_dir=tmp_path, report=silent)
    steps = -(-len(data.pairs.train) // TINY.run.batch_size)
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
    clipped = curves["train/gradient norm, clipped"]
    assert max(point.value for point in clipped) <= TINY.optimizer.max_norm
    assert [image.step for image in events.Images("attention")] == [steps, 2 * steps, 3 * steps]


@pytest.mark.parametrize(
    "changes, drawn",
    [
        ({"attention": "none"}, False),
        ({"attention": "location"}, True),
        ({"model": "transformer"}, True),
    ],
)
def test_attention_is_drawn_where_there_is_some(data, tmp_path, changes, drawn):
    settings = TINY.having(epochs=1, **changes)
    fit(tiny_run(data, settings), log_dir=tmp_path, report=silent)
    events = EventAccumulator(str(tmp_path)).Reload()
    assert events.Tags()["images"] == (["attention"] if drawn else [])
    assert "valid/loss" in events.Tags()["scalars"]


def test_all_measures_of_an_epoch_have_their_curves(data, tmp_path):
    log, record = Log(tmp_path), {"valid loss": 2.0, "valid BLEU": 31.5, "lr": 0.1}
    log.epoch(record, tiny_run(data).model, data)
    log.close()
    assert points(tmp_path, "valid/loss") == [(0, 2.0)] and points(tmp_path, "valid/BLEU")
    tags = EventAccumulator(str(tmp_path)).Reload().Tags()["scalars"]
    assert set(tags) == {"valid/loss", "valid/BLEU"}


def test_a_loss_is_measured_a_few_sentences_at_a_time(data, monkeypatch):
    """So many that their logits, a vocabulary for each word, do not fill the memory."""
    sizes, words = [], max(len(trg) for _, trg in data.pairs.valid) * len(data.trg_vocab)

    def spy(model, pairs, size):
        sizes.append(size)
        return mean_loss(model, pairs, size)

    monkeypatch.setattr(loop, "mean_loss", spy)
    run = tiny_run(data)
    whole = run.measure()
    monkeypatch.setattr(loop, "LOGITS", 7 * words)
    assert run.measure() == pytest.approx(whole) and sizes == [500, 7]


def points(log_dir, tag):
    scalars = EventAccumulator(str(log_dir)).Reload().Scalars(tag)
    return [(point.step, point.value) for point in scalars]


def test_no_step_appears_twice_in_the_curves(data, tmp_path, monkeypatch):
    """Not after a run that was broken off within an epoch, and not after one that begins anew."""
    fit(tiny_run(data), log_dir=tmp_path / "whole", report=silent)
    steps, step = iter(range(30)), Learner.step

    def break_off(*args):
        if next(steps, None) is None:
            raise KeyboardInterrupt
        return step(*args)

    folders = {"folder": tmp_path / "run", "log_dir": tmp_path / "parts", "report": silent}
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Learner, "step", break_off)
        fit(tiny_run(data), **folders)
    fit(tiny_run(data, saved=checkpoint.latest(tmp_path / "run")), **folders)
    for tag in ("train/loss", "valid/loss"):
        assert points(tmp_path / "parts", tag) == points(tmp_path / "whole", tag)
    fit(tiny_run(data), **folders)
    assert points(tmp_path / "parts", "train/loss") == points(tmp_path / "whole", "train/loss")


def test_a_bar_is_drawn_where_it_is_told_and_vanishes(data, monkeypatch):
    monkeypatch.setenv("TQDM_DISABLE", "0")
    bars = []
    monkeypatch.setattr(
        "helpers.runs.loop.tqdm", lambda *args, **look: bars.append(look) or args[0]
    )
    file = io.StringIO()
    fit(tiny_run(data), report=silent, bar=file)
    steps = -(-len(data.pairs.train) // TINY.run.batch_size)
    assert [(look["total"], look["leave"], look["file"]) for look in bars] == [
        (steps, False, file)
    ] * 3


def test_the_integer_task_is_learned_by_the_same_loop():
    sizes = {"emb_size": 16, "hidden_size": 16, "attn_size": 16, "lr": 0.02, "epochs": 8}
    settings = TINY.having(**sizes, vocab_size=8, max_length=4, per_length=300)
    history = fit(tiny_run(tiny_data(settings), settings), report=silent)
    assert history[-1]["valid exact match"] > 0.8


@pytest.mark.parametrize(
    "changes",
    [{"attention": "location"}, {"cell": "lstm", "layers": 2}, {"model": "transformer"}],
    ids=str,
)
def test_dropout_is_at_work_in_every_step_and_in_nothing_else(data, changes):
    run, calls = tiny_run(data, TINY.having(**changes, dropout=0.1, epochs=2)), []
    for module in (run.model, *(m for m in run.model.modules() if type(m).__name__ == "Dropout")):
        module.register_forward_hook(
            lambda module, *_: calls.append((module.training, torch.is_grad_enabled()))
        )
    fit(run, report=silent)
    assert set(calls) == {(True, True), (False, False)} and not run.model.training


def test_dropout_in_parts_of_a_batch_is_refused(data):
    settings = TINY.having(attention="location", dropout=0.1, accumulate=2)
    with pytest.raises(ValueError, match="dropout needs whole batches"):
        tiny_run(data, settings)


def test_the_report_repeats_the_epochs_done_before(data, tmp_path):
    first, again = [], []
    history = fit(tiny_run(data), tmp_path, report=first.append)
    fit(tiny_run(data, saved=checkpoint.latest(tmp_path)), tmp_path, report=again.append)
    assert first == again == [epoch_line(history[:epoch]) for epoch in (1, 2, 3)]


def test_the_model_of_the_assignment_is_the_default():
    settings = Settings.of()
    assert settings.run.epochs == 3 and settings.folder().as_posix() == "checkpoints/words"


@pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="not on this system")
def test_freed_memory_goes_back_to_the_system():
    def resident():
        return int(open("/proc/self/statm").read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    blocks = [(bytearray(60_000), bytearray(1_000)) for _ in range(2_000)]
    small = [pair[1] for pair in blocks]  # lies between the large ones
    full = resident()
    del blocks
    hand_back_memory()
    assert resident() < full - 90 * 10**6 and len(small) == 2_000
