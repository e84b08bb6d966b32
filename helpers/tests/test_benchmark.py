"""What the benchmark compares is the same; what it prints can be read by a program."""

import json
from math import isnan, nan
from unittest import mock

import pytest
import torch

from helpers.commands import benchmark
from helpers.data import collate
from helpers.runs.fused import Fused
from helpers.runs.settings import Settings
from helpers.tests.test_cli import run
from helpers.tests.tiny import fresh_model, largest_difference, tiny_data


def test_the_textbook_is_the_same_model():
    """On sentences of one length, since it reads padding."""
    data = tiny_data()
    model = fresh_model(data)
    batch = collate([pair for pair in data.pairs.train if len(pair[0]) == 3][:5])
    given = batch.src, batch.src_lens, batch.trg_in
    textbook = benchmark.Textbook(model)
    torch.testing.assert_close(textbook(*given), model(*given)[0], rtol=0, atol=1e-12)
    learner = benchmark.TextbookLearner(textbook, Settings.of())
    before = textbook.output.weight.clone()
    learner.step(collate(data.pairs.train[:1]))
    assert (textbook.output.weight - before).abs().max() > 0
    both = model.parameters(), fresh_model(data).parameters()
    assert largest_difference(*both) == 0  # the textbook has parameters of its own


def test_contenders_take_turns_and_the_median_counts(monkeypatch):
    order, clock = [], iter([0, 9, 0, 9, 0, 1, 0, 2, 0, 3, 0, 8, 0, 5, 0, 4])
    monkeypatch.setattr(benchmark, "perf_counter", lambda: next(clock))
    medians = benchmark.in_turns(lambda: order.append(1), lambda: order.append(2), rounds=3)
    assert order == [1, 2] * 4 and medians == [3, 4]


TINY = Settings.of(batch_size=2)


@pytest.fixture
def narrow(monkeypatch):
    """A model that takes no time."""
    build, sizes = benchmark.build_model, (4, 4, 4)
    monkeypatch.setattr(benchmark, "build_model", lambda src, trg: build(src, trg, *sizes))


@pytest.fixture
def calls(monkeypatch):
    """Who is called, and None after each contender, whose times are all 6.0 and 2.0 seconds."""
    calls = []

    def in_turns(*contenders, rounds):
        for contender in contenders:
            contender()
            calls.append(None)
        calls.append(torch.get_num_threads())
        return [6.0, 2.0]

    def tell(owner, name):
        whole = getattr(owner, name)
        note = lambda *args, **options: calls.append(owner) or whole(*args, **options)  # noqa: E731
        monkeypatch.setattr(owner, name, note)

    monkeypatch.setattr(benchmark, "in_turns", in_turns)
    for owner in (benchmark.TextbookLearner, benchmark.Learner, benchmark.Seq2Seq, Fused):
        tell(owner, "forward" if issubclass(owner, torch.nn.Module) else "step")
    tell(benchmark, "decode")
    for kind in (benchmark.Adam, torch.optim.Adam):
        tell(kind, "step")
    return calls


@pytest.mark.parametrize("bucket", [True, False])
def test_the_textbook_is_above_the_line(bucket, calls, narrow, monkeypatch):
    """And reads batches that are sorted by length, or not; ours always are."""
    sorted_ones, whole = [], benchmark.batches

    def spy(*args, bucket=True, **options):
        sorted_ones.append(bucket)
        return whole(*args, bucket=bucket, **options)

    monkeypatch.setattr(benchmark, "batches", spy)
    assert benchmark.training(TINY, 2, 3, torch.float32, bucket) == 3
    assert sorted_ones == [bucket, True]  # first the textbook's
    steps = [call for call in calls if call in (benchmark.TextbookLearner, benchmark.Learner)]
    assert steps == [benchmark.TextbookLearner, benchmark.Learner] * 8
    assert Fused in calls
    assert torch.get_default_dtype() == torch.float64


def test_the_plain_model_is_above_the_fast_loops(calls, narrow):
    """All else is the same, the batches, too. When they are first called, they compare."""
    assert benchmark.loops(TINY, 2, 3, torch.float32) == 3
    models = [call for call in calls if call in (benchmark.Seq2Seq, Fused, None)]
    plain, fast = [benchmark.Seq2Seq, None], [Fused, None]
    assert models == [*plain, Fused, *plain, *7 * [*plain, *fast]]


def test_the_same_batches_for_both(narrow, monkeypatch):
    given = {}
    monkeypatch.setattr(benchmark, "ratio", lambda *four: given.update(four=four))
    benchmark.loops(TINY, 2, 3, torch.float32)
    plain, theirs, fast, ours = given["four"]
    assert theirs is ours and len(ours) == 8
    some, other = (step.__self__.model for step in (plain, fast))
    assert some is not other
    assert largest_difference(some.parameters(), other.parameters()) == 0
    assert {param.dtype for param in other.parameters()} == {torch.float32}


def test_float64_is_above_float32(narrow, monkeypatch):
    given = {}
    monkeypatch.setattr(benchmark, "ratio", lambda *four: given.update(four=four))
    benchmark.precision(TINY, 2, 3)
    double, theirs, single, ours = given["four"]
    assert theirs is ours and len(ours) == 8
    types = [{p.dtype for p in step.__self__.model.parameters()} for step in (double, single)]
    assert types == [{torch.float64}, {torch.float32}]


def test_one_thread_is_above_two(calls, narrow):
    counts, whole = [], benchmark.Learner.step
    spy = lambda self, batch: counts.append(torch.get_num_threads()) or whole(self, batch)  # noqa: E731
    with mock.patch.object(benchmark.Learner, "step", spy):
        assert benchmark.threads(TINY, 2, 3) == 3
    assert counts == [1, 2] * 8


def test_the_linear_layer_is_above_the_tied_one(monkeypatch):
    given = {}
    monkeypatch.setattr(benchmark, "ratio", lambda *four: given.update(four=four))
    benchmark.output_layer(TINY.having(emb_size=4, hidden_size=4), 50)
    linear, theirs, tied, ours = given["four"]
    assert theirs is ours and len(ours) == 8 and max(batch.src.max() for batch in ours) > 40
    models = [step.__self__.model for step in (linear, tied)]
    outputs = [model.decoder.output for model in models]
    assert [type(output).__name__ for output in outputs] == ["Linear", "Readout"]
    assert outputs[1].words.weight is models[1].decoder.embedding.weight
    assert {p.dtype for model in models for p in model.parameters()} == {torch.float32}


def test_one_at_a_time_is_above_together(calls, narrow):
    assert benchmark.decoding(TINY, 2, 4) == 3
    assert calls == [*4 * [benchmark], None, benchmark, None, 2]


@pytest.mark.parametrize("options", [{}, {"foreach": True}, {"fused": True}], ids=str)
def test_our_adam_is_above_torchs(options, calls, narrow, monkeypatch):
    given, whole = [], torch.optim.Adam.__init__

    def note(self, *args, **kwargs):
        given.append(kwargs)
        whole(self, *args, **kwargs)

    monkeypatch.setattr(torch.optim.Adam, "__init__", note)
    assert benchmark.adam(TINY, **options) == 3
    assert calls == [benchmark.Adam, None, torch.optim.Adam, None, 1]
    assert given == [options]


def test_the_share_of_the_data(calls, narrow):
    """Steps are made for a tenth of the batches."""
    assert benchmark.data_share(TINY) == 6 / 26
    assert calls.count(benchmark.Learner) == 20 and calls[0] is None


def test_all_batches_count(narrow, monkeypatch):
    times = iter([[float(i), 9.0 - i] for i in range(1, 9)])
    monkeypatch.setattr(benchmark, "in_turns", lambda *contenders, rounds: next(times))
    assert benchmark.training(TINY, 2, 3, torch.float32, bucket=True) == 1


def test_a_step_takes_time_and_memory():
    seconds, memory = benchmark.one_step(3, 2)
    assert 0 < seconds < 60 and (isnan(memory) or 50 < memory < 100_000)


def test_the_names_of_all_that_is_measured(monkeypatch):
    """Each measure is asked for what its name says."""
    asked = []

    def note(name):
        def measure(settings, *given, **options):
            asked.append((name, *given, *options))
            return 1.0

        return measure

    names = "training", "loops", "precision", "threads", "output_layer", "decoding", "adam"
    for name in (*names, "data_share"):
        monkeypatch.setattr(benchmark, name, note(name))
    pool = mock.MagicMock()
    pool.return_value.__enter__.return_value.submit.return_value.result.return_value = (2.0, 3.0)
    monkeypatch.setattr(benchmark, "ProcessPoolExecutor", pool)
    names = dict(benchmark.on_cpu())
    assert len(names) == len(asked) + 2 * len(benchmark.GROWTH)
    measures = dict(zip(names, asked, strict=False))
    for lengths, named in (((3, 12), "3 to 12"), ((30, 50), "30 to 50")):
        for dtype in (torch.float32, torch.float64):
            name = f"training, {named} words, {str(dtype)[6:]}"
            same, random = (f"textbook in {order} batches / ours" for order in ("same", "random"))
            assert measures[f"{name}, {same}"] == ("training", *lengths, dtype, True)
            assert measures[f"{name}, {random}"] == ("training", *lengths, dtype, False)
            plain = f"{name}, model.py in same batches / ours"
            assert measures[plain] == ("loops", *lengths, dtype)
        price = measures[f"precision, {named} words, float64 / float32"]
        assert price == ("precision", *lengths)
        assert measures[f"threads, {named} words, one / two"] == ("threads", *lengths)
    for size in (benchmark.VOCAB, 4_000, 10_000):
        name, kind = f"vocabulary of {size:,}", (3, 12, torch.float32, True, size)
        if size != benchmark.VOCAB:  # which stands above
            assert measures[f"{name}, textbook / ours"] == ("training", *kind)
        assert measures[f"{name}, linear / tied output layer"] == ("output_layer", size)
    assert measures["decoding, one thread, one at a time / together"] == ("decoding", 1)
    assert measures["decoding, two threads, one at a time / together"] == ("decoding", 2)
    assert measures["Adam, ours / torch's"] == ("adam",)
    for option in ("foreach", "fused"):
        assert measures[f"Adam, ours / torch's, {option}"] == ("adam", option)
    assert measures["making a batch, share of a training step"] == ("data_share",)
    sizes = [call.args[1:] for call in pool.mock_calls if call.args[:1] == (benchmark.one_step,)]
    assert sizes == benchmark.GROWTH
    assert names["step with 1000 words in a sentence and 4 in a batch, MiB"] == 3.0


def test_one_name_and_value_a_line_and_the_same_in_a_file(tmp_path, monkeypatch):
    measured = {"training, textbook / ours": 2.34567, "step, seconds": 0.000123456, "MiB": nan}
    monkeypatch.setattr(benchmark, "on_cpu", lambda: iter(measured.items()))
    out, err = run("benchmark", "--json", tmp_path / "values.json")
    assert out == "training, textbook / ours: 2.35\nstep, seconds: 0.000123\nMiB: nan\n"
    values = json.loads((tmp_path / "values.json").read_text())
    assert values == {"training, textbook / ours": 2.35, "step, seconds": 0.000123, "MiB": None}
    assert err == ""
    _, err = run("benchmark", "--json", tmp_path / "none" / "values.json", status=2)
    assert "must be a file in an existing folder" in err and err.count("\n") == 1
    _, err = run("benchmark", "--json", tmp_path, status=2)
    assert f"not '{tmp_path}'" in err and err.count("\n") == 1


@pytest.fixture
def precisions(monkeypatch):
    """In which each `Learner` multiplies while it is at work."""
    seen, whole = [], benchmark.Learner.step

    def spy(self, batch):
        seen.append((self.run.amp, torch.get_autocast_dtype("cpu")))
        return whole(self, batch)

    monkeypatch.setattr(benchmark.Learner, "step", spy)
    return seen


def test_words_a_second_in_each_precision(monkeypatch, precisions):
    """What stands under a name is what was timed, and all read the same batches."""
    monkeypatch.setattr(benchmark, "VOCAB", 9)
    seen, usual = [], torch.get_autocast_dtype("cpu")

    def in_turns(*contenders, rounds):
        for contender in contenders:
            precisions.clear()
            contender()
            seen.append(list(precisions))
        return [1.0, 2.0, 4.0, 8.0]

    monkeypatch.setattr(benchmark, "in_turns", in_turns)
    speeds = dict(benchmark.words_per_second("cpu", 4, 2))
    kinds = ["textbook, float32", "ours, float32", "ours, float16", "ours, bfloat16"]
    assert [*speeds] == [f"size 4, batches of 2, {kind}, tokens/s" for kind in kinds]
    textbook, *ours = speeds.values()
    tokens = sum(len(trg) + 1 for _, trg in benchmark.random_pairs(8, 3, 12))
    assert [textbook, *ours] == [tokens, tokens / 2, tokens / 4, tokens / 8]
    halves = [(False, usual), (True, torch.float16), (True, torch.bfloat16)]
    assert seen == [[], *([half] * 4 for half in halves)]
    assert torch.get_autocast_dtype("cpu") == usual


@pytest.mark.parametrize("half", benchmark.HALVES)
def test_what_is_learned_is_counted_on_the_test_set(half, precisions, monkeypatch):
    tiny = Settings.of(per_length=4, epochs=1, precision="float32", emb_size=4, hidden_size=4)
    monkeypatch.setattr(
        benchmark, "Settings", mock.Mock(of=lambda **given: tiny.having(amp=given["amp"]))
    )
    monkeypatch.setattr(benchmark, "right_answers", lambda model, data, *rest: [True, True, False])
    values = dict(benchmark.learned("cpu", half))
    name = f"model of the assignment, {half}"
    assert values[f"{name}, exact match"] == 2 / 3 and values[f"{name}, seconds of training"] > 0
    dtype = benchmark.HALVES[half] or torch.get_autocast_dtype("cpu")
    assert {*precisions} == {(half != "float32", dtype)}


def test_without_a_gpu_there_is_nothing_to_measure(tmp_path):
    if not torch.cuda.is_available():
        _, err = run("benchmark", "--device", "cuda", "--json", tmp_path / "gpu.json", status=2)
        assert "there is no GPU" in err and err.count("\n") == 1
        assert not (tmp_path / "gpu.json").exists()
