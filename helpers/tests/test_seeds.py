"""The table of several seeds: what is counted, and what is printed."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from io import StringIO
from pathlib import Path
from unittest import mock

import pandas as pd
import pytest

from helpers import seeds
from helpers.config import Config
from helpers.data import UNK
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
    assert seeds.count_right(Pointer(lambda lens: lens.clamp(max=1), -1), sources) == 3


def test_the_table_has_a_line_for_each_seed_length_and_share(monkeypatch, capsys):
    tiny = {"per_length": 20, "max_length": 3, "epochs": 1, "emb_size": 4, "hidden_size": 4}
    monkeypatch.setattr(seeds, "ANY_LENGTH", replace(seeds.ANY_LENGTH, **tiny))
    monkeypatch.setattr(seeds, "COUNTS", {(2, 1.0): 3, (3, 0.5): 4})
    monkeypatch.setattr(seeds, "ProcessPoolExecutor", lambda n, context: ThreadPoolExecutor(1))
    monkeypatch.setattr("sys.argv", ["seeds", "--seeds", "2"])
    seeds.main()
    table = pd.read_csv(StringIO(capsys.readouterr().out))
    assert table["seed"].tolist() == [1, 1, 2, 2]
    assert table["words"].tolist() == [2, 3, 2, 3] and table["of"].tolist() == [3, 4, 3, 4]
    assert table["unseen"].tolist() == [1.0, 0.5, 1.0, 0.5]
    assert (table["right"] <= table["of"]).all() and (table["seconds"] >= 0).all()


@pytest.mark.parametrize("given, says", [("0", "not 0"), ("1001", "not 1001"), ("x", "invalid")])
def test_a_number_of_seeds_may_be_refused(given, says, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["seeds", "--seeds", given])
    with pytest.raises(SystemExit) as stop:
        seeds.main()
    (line,) = capsys.readouterr().err.splitlines()
    assert stop.value.code == 2 and says in line


def test_a_table_that_cannot_be_made_is_one_line(monkeypatch, capsys):
    full = OSError(28, "No space left on device")
    monkeypatch.setattr(seeds, "print_table", mock.Mock(side_effect=full))
    monkeypatch.setattr("sys.argv", ["seeds"])
    assert seeds.main() == 2
    assert capsys.readouterr().err == f"python -m helpers.seeds: {full}\n"


def test_the_readme_trains_the_model_of_the_table():
    readme = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
    command = next(line for line in readme.splitlines() if "train --model location" in line)
    flags = command.split("train ")[1].replace("--", "").replace("-", "_").split()
    given = dict(zip(flags[::2], flags[1::2], strict=True))
    assert {name: str(getattr(seeds.ANY_LENGTH, name)) for name in given} == given
    assert replace(seeds.ANY_LENGTH, **{name: getattr(Config, name) for name in given}) == Config()


def test_when_nobody_reads_no_other_seed_is_trained(monkeypatch):
    processes, full = mock.MagicMock(), mock.Mock(side_effect=BrokenPipeError)
    processes.__enter__.return_value.map.return_value = [mock.Mock(to_csv=full)] * 3
    monkeypatch.setattr(seeds, "ProcessPoolExecutor", mock.Mock(return_value=processes))
    with pytest.raises(BrokenPipeError):
        seeds.print_table(3)
    cancel = processes.__enter__.return_value.shutdown
    cancel.assert_called_once_with(wait=False, cancel_futures=True)
    assert full.call_count == 1
