"""What the benchmark compares is the same; what it prints can be read by a program."""

import json
from math import isnan, nan

import pytest
import torch

from helpers import benchmark
from helpers.config import Config
from helpers.data import collate
from helpers.tests.test_cli import run
from helpers.tests.tiny import fresh_model, largest_difference, tiny_task


def test_the_textbook_is_the_same_model():
    """On sentences of one length, since it reads padding."""
    task = tiny_task()
    model = fresh_model(task)
    batch = collate([pair for pair in task.pairs.train if len(pair[0]) == 3][:5])
    given = batch.src, batch.src_lens, batch.trg_in
    textbook = benchmark.Textbook(model)
    torch.testing.assert_close(textbook(*given), model(*given)[0], rtol=0, atol=1e-12)
    learner, batch_of_one = benchmark.TextbookLearner(textbook, Config()), batch.part(0, 5)
    before = textbook.output.weight.clone()
    learner.step(batch_of_one)
    assert (textbook.output.weight - before).abs().max() > 0
    both = model.parameters(), fresh_model(task).parameters()
    assert largest_difference(*both) == 0  # the textbook has weights of its own


def test_contenders_take_turns_and_the_median_counts(monkeypatch):
    order, clock = [], iter([0, 9, 0, 9, 0, 1, 0, 2, 0, 3, 0, 8, 0, 5, 0, 4])
    monkeypatch.setattr(benchmark, "perf_counter", lambda: next(clock))
    medians = benchmark.in_turns(lambda: order.append(1), lambda: order.append(2), rounds=3)
    assert order == [1, 2] * 4 and medians == [3, 4]


TINY = Config(hidden_size=4, emb_size=4, attn_size=4, batch_size=2)


@pytest.mark.parametrize("bucket", [True, False])
def test_the_ratios_are_those_of_the_medians(bucket, monkeypatch):
    """And who is first: of a ratio, what is above the line."""
    sorted_ones, threads, made, calls = [], [], benchmark.batches, []

    def in_turns(*contenders, rounds):
        for contender in contenders:
            contender()
            calls.append(None)
        threads.append(torch.get_num_threads())
        return [6.0, 2.0]

    def spy(*args, bucket=True, **options):
        sorted_ones.append(bucket)
        return made(*args, bucket=bucket, **options)

    def told(owner, name):
        whole = getattr(owner, name)
        note = lambda *args, **options: calls.append(owner) or whole(*args, **options)  # noqa: E731
        monkeypatch.setattr(owner, name, note)

    monkeypatch.setattr(benchmark, "in_turns", in_turns)
    monkeypatch.setattr(benchmark, "batches", spy)
    for owner in (benchmark.TextbookLearner, benchmark.Learner):
        told(owner, "step")
    told(benchmark, "decode")
    assert benchmark.training(TINY, 2, 3, torch.float32, bucket) == 3
    assert sorted_ones == [bucket, True]  # first the textbook's
    assert calls[:4] == [benchmark.TextbookLearner, None, benchmark.Learner, None]
    calls.clear()
    assert benchmark.decoding(TINY, 2, 4) == 3 and benchmark.adam(TINY) == 3
    assert calls[:7] == [*[benchmark] * 4, None, benchmark, None]  # first one at a time
    assert threads[-2:] == [2, 1]
    assert benchmark.data_share(TINY) == 6 / 26  # steps are made for a tenth of the batches
    assert torch.get_default_dtype() == torch.float64


def test_all_batches_count(monkeypatch):
    times = iter([[float(i), 9.0 - i] for i in range(1, 9)])
    monkeypatch.setattr(benchmark, "in_turns", lambda *contenders, rounds: next(times))
    assert benchmark.training(TINY, 2, 3, torch.float32, bucket=True) == 1


def test_a_step_takes_time_and_memory():
    seconds, memory = benchmark.one_step(3, 2)
    assert 0 < seconds < 60 and (isnan(memory) or 50 < memory < 100_000)


def test_one_name_and_value_a_line_and_the_same_in_a_file(tmp_path, monkeypatch):
    found = {"training, textbook / ours": 2.34567, "step, seconds": 0.000123456, "MiB": nan}
    monkeypatch.setattr("helpers.__main__.benchmark", lambda: iter(found.items()))
    out, err = run("benchmark", "--json", tmp_path / "values.json")
    assert out == "training, textbook / ours: 2.35\nstep, seconds: 0.000123\nMiB: nan\n"
    values = json.loads((tmp_path / "values.json").read_text())
    assert values == {"training, textbook / ours": 2.35, "step, seconds": 0.000123, "MiB": None}
    assert err == ""
    _, err = run("benchmark", "--json", tmp_path / "none" / "values.json", status=2)
    assert "must be a file in an existing folder" in err and err.count("\n") == 1
    _, err = run("benchmark", "--json", tmp_path, status=2)
    assert f"not '{tmp_path}'" in err and err.count("\n") == 1
