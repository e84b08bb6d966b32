"""The table of several seeds: what is counted, and what is printed."""

from argparse import Namespace
from concurrent.futures import ThreadPoolExecutor
from io import StringIO
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

import pandas as pd
import pytest
import torch

from helpers.commands import seeds
from helpers.data import UNK
from helpers.runs.settings import Settings
from helpers.tests.test_cli import run
from helpers.tests.test_copying import Pointer


def test_random_sources_have_the_share_of_unseen_words():
    sources = seeds.random_sources(50, 40, 0.5, vocab_size=9, seed=1)
    assert sources == seeds.random_sources(50, 40, 0.5, vocab_size=9, seed=1)
    assert sources != seeds.random_sources(50, 40, 0.5, vocab_size=9, seed=2)
    assert [len(src) for src in sources] == [50] * 40
    ids = [id_ for src in sources for id_ in src]
    assert set(ids) == {UNK, *range(4, 9)} and 0.4 < ids.count(UNK) / len(ids) < 0.6
    assert seeds.random_sources(3, 1, 1.0, 9, 1) == [[UNK] * 3]
    assert UNK not in sum(seeds.random_sources(50, 4, 0.0, 9, 1), [])


def test_only_whole_reversals_count():
    sources = [[4, 5, 6], [7], [5, 4], [7], [7]]
    assert seeds.count_right(Pointer(lambda lens: lens, -1), sources) == 5
    assert seeds.count_right(Pointer(lambda lens: lens - 1, -1), sources) == 0
    forwards = Pointer(torch.ones_like, 1)  # the right number of words, in the wrong order
    assert seeds.count_right(forwards, sources) == 3
    assert seeds.count_right(Pointer(lambda lens: lens.clamp(max=1), -1), sources) == 3


TINY = {"per_length": 20, "max_length": 3, "epochs": 1, "emb_size": 4, "hidden_size": 4}


def test_the_table_has_a_line_for_each_seed_and_case(monkeypatch):
    monkeypatch.setattr(seeds, "PLAIN", seeds.PLAIN.having(**TINY))
    monkeypatch.setattr(seeds, "ANY_LENGTH", seeds.ANY_LENGTH.having(**TINY))
    monkeypatch.setattr(seeds, "BLIND", seeds.BLIND.having(**TINY))
    monkeypatch.setattr(seeds, "COUNTS", {(2, 1.0): 3, (3, 0.5): 4})
    monkeypatch.setattr(seeds, "LONGER", (4, 7))
    monkeypatch.setattr(seeds, "ProcessPoolExecutor", lambda n, context: ThreadPoolExecutor(1))
    out, _ = run("seeds", "--seeds", 2)
    table = pd.read_csv(StringIO(out))
    assert [*table] == ["model", "seed", "words", "unseen", "right", "of"]
    names = [*3 * ["assignment"], "alignment", "no attention", *2 * ["any length"]]
    assert table["model"].tolist() == 2 * names
    assert table["seed"].tolist() == 7 * [1] + 7 * [2]
    assert table["words"].tolist() == 2 * ["1 to 12", "4", "7", "1 to 12", "1 to 12", "2", "3"]
    tests = [seeds.PLAIN.task.load(seed).pairs.test for seed in (1, 2)]
    words = [sum(len(src) for src, _ in pairs) for pairs in tests]
    expected = [[len(pairs), 200, 200, count, len(pairs), 3, 4]
                for pairs, count in zip(tests, words, strict=True)]  # fmt: skip
    assert table["of"].tolist() == sum(expected, [])
    assert table["unseen"].tolist() == 2 * [*5 * [0.0], 1.0, 0.5]
    assert (table["right"] <= table["of"]).all()


def test_of_the_assignment_the_best_epoch_is_measured_on_its_own_test_set(monkeypatch):
    """And of the model for any length the last one, on random sentences."""
    asked, data = [], Settings.of(**TINY).task.load(5)
    looks = SimpleNamespace(ids=[4, 5], weights=torch.eye(3).flip(1))  # the third is of <eos>

    def trained(settings, name):
        asked.append((settings.run.seed, settings.model.attention, name))
        pointer = Pointer(lambda lens: lens, -1)
        return SimpleNamespace(model=pointer, vocab=data.vocab)

    monkeypatch.setattr(seeds, "PLAIN", seeds.PLAIN.having(**TINY))
    monkeypatch.setattr(seeds, "BLIND", seeds.BLIND.having(**TINY))
    monkeypatch.setattr(seeds, "trained", trained)
    monkeypatch.setattr(seeds, "COUNTS", {(4, 0.5): 3})
    monkeypatch.setattr(seeds, "LONGER", (6,))
    monkeypatch.setattr(seeds, "answer_ids", lambda _, sources: [src[::-1] for src in sources])
    monkeypatch.setattr(seeds, "decode", lambda model, sources: [looks] * len(sources))
    plain, longer, alignment, blind, line = seeds.train_and_measure(5)
    ways = [(5, "bahdanau", "best.pt"), (5, "none", "best.pt"), (5, "location", "last.pt")]
    assert longer == {"model": "assignment", "seed": 5, "words": 6, "unseen": 0.0,
                      "right": 200, "of": 200}  # fmt: skip
    assert alignment["of"] == sum(len(src) for src, _ in data.pairs.test)
    of_three = sum(len(src) == 3 for src, _ in data.pairs.test)
    assert alignment["right"] == 2 * of_three, "sentences of other lengths have other places"
    assert asked == ways and blind == plain | {"model": "no attention"}
    assert plain["of"] == plain["right"] == len(data.pairs.test)
    given = {"model": "any length", "seed": 5, "words": 4, "unseen": 0.5}
    assert line == given | {"right": 3, "of": 3}


@pytest.mark.parametrize("name", ["best.pt", "last.pt"])
def test_a_run_leaves_nothing_behind(name, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    settings = Settings.of(**TINY, seed=3)
    loaded = seeds.trained(settings, name)
    assert loaded.settings == settings and len(loaded.history) == 1
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize("given, says", [("0", "not 0"), ("1001", "not 1001"), ("x", "invalid")])
def test_a_number_of_seeds_may_be_refused(given, says):
    out, err = run("seeds", "--seeds", given, status=2)
    assert out == "" and err.count("\n") == 1 and says in err


def test_a_table_that_cannot_be_made_is_one_line(monkeypatch):
    full = OSError(28, "No space left on device")
    monkeypatch.setattr(seeds, "ProcessPoolExecutor", mock.Mock(side_effect=full))
    assert run("seeds", status=2) == ("", f"python -m helpers: {full}\n")


def test_the_readme_trains_the_model_of_the_table():
    """By default: `train --attention location` is the whole of it."""
    readme = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
    command = next(line for line in readme.splitlines() if "helpers train --attention loc" in line)
    flags = command.split("train ")[1].replace("--", "").replace("-", "_").split()
    assert flags == ["attention", "location"]
    assert seeds.ANY_LENGTH == Settings.of(**dict(zip(flags[::2], flags[1::2], strict=True)))
    assert seeds.PLAIN == Settings.of()


def test_when_nobody_reads_no_other_seed_is_trained(monkeypatch):
    processes, full = mock.MagicMock(), mock.Mock(side_effect=BrokenPipeError)
    processes.__enter__.return_value.map.return_value = [[{"seed": 1}]] * 3
    monkeypatch.setattr(seeds, "ProcessPoolExecutor", mock.Mock(return_value=processes))
    monkeypatch.setattr("sys.stdout", mock.Mock(write=full))
    with pytest.raises(BrokenPipeError):
        seeds.run(Namespace(seeds=3))
    cancel = processes.__enter__.return_value.shutdown
    cancel.assert_called_once_with(wait=False, cancel_futures=True)
    assert full.call_count == 1
