"""The committed notebooks: complete, in order, clean. Closes what nbval does not compare."""

import re
from pathlib import Path
from statistics import median

import nbformat
import pytest

ROOT = Path(__file__).parents[2]
NAMES = ["01_data", "02_model", "03_training", "04_evaluation", "05_analysis"]


def read(name):
    return nbformat.read(ROOT / f"{name}.ipynb", as_version=4)


def code_cells(name):
    return [cell for cell in read(name).cells if cell.cell_type == "code"]


def stored_text(cell):
    for output in cell.outputs:
        yield output.get("text", "")
        for kind, data in output.get("data", {}).items():
            if not kind.startswith("image/"):
                yield data


def test_there_are_five():
    assert sorted(path.stem for path in ROOT.glob("*.ipynb")) == NAMES


@pytest.mark.parametrize("name", NAMES)
class TestNotebook:
    def test_every_cell_ran_once_from_top_to_bottom(self, name):
        counts = [cell.execution_count for cell in code_cells(name)]
        assert counts == list(range(1, len(counts) + 1))

    def test_nothing_went_wrong(self, name):
        for cell in code_cells(name):
            for output in cell.outputs:
                assert output.output_type != "error"
                assert output.get("name") != "stderr"

    def test_no_times_paths_or_addresses(self, name):
        for cell in code_cells(name):
            assert "timestamp" not in str(cell.metadata) and "execution" not in cell.metadata
            for text in stored_text(cell):
                assert not re.search(r"/(home|root|tmp|work|usr|Users)/", text), text
                assert not re.search(r"\d\d:\d\d|\bat 0x[0-9a-f]{6}", text), text

    def test_every_cell_that_shows_something_has_its_output(self, name):
        for cell in code_cells(name):
            last = cell.source.splitlines()[-1]
            if re.match(r"(print|show|Markdown|plt\.show|plot_\w+)\(", last):
                assert cell.outputs, cell.source

    def test_nothing_is_ignored(self, name):
        for cell in code_cells(name):
            assert "NBVAL" not in cell.source and not cell.metadata.get("tags")

    def test_cells_are_short(self, name):
        lengths = [len(cell.source.splitlines()) for cell in code_cells(name)]
        assert max(lengths) <= 20 and median(lengths) <= 6

    def test_only_times_are_not_compared(self, name):
        """The rule in .nbval-sanitize applies to the seven times in tables, and to nothing else."""
        rule = re.search("^regex: (.*)$", (ROOT / ".nbval-sanitize").read_text(), re.M).group(1)
        text = "\n".join(text for cell in code_cells(name) for text in stored_text(cell))
        times = [text[max(0, match.start() - 2) : match.end()] for match in re.finditer(rule, text)]
        assert len(times) == (7 if name == "04_evaluation" else 0)
        assert all(time.startswith("| ") for time in times)

    def test_lines_fit_the_page(self, name):
        for cell in code_cells(name):
            assert max(map(len, cell.source.splitlines())) <= 100


PRINTED = {  # how a notebook prints what a row of the README's table of results says
    "exact match (the whole": ("04_evaluation", "exact match    {} "),
    "its 95 % interval": ("04_evaluation", "95 % interval  {}\n"),
    "token accuracy": ("04_evaluation", "token accuracy {}\n"),
    "alignment accuracy": ("04_evaluation", "alignment accuracy {}\n"),
    "lines of the Zen": ("04_evaluation", "{} lines reversed without a fault\n"),
    "attention weight on padding": ("04_evaluation", "weights on padding, the largest is {}\n"),
    "exact match of the same": ("05_analysis", "attention and of {} without it"),
    "exact match of a second": ("04_evaluation", "integers: exact match {} of 2,105 sequences\n"),
    "alignment accuracy of that": ("04_evaluation", "integers: alignment accuracy {}\n"),
    "integers, exact match of the LSTM": ("04_evaluation", "LSTM, no attention | {} |"),
    "integers, exact match with Bahdanau": ("04_evaluation", "Bahdanau's attention | {} |"),
    "integers, exact match with Luong": ("04_evaluation", "Luong's attention | {} |"),
    "integers, exact match of the Trans": ("04_evaluation", "Transformer | {} |"),
    "integers, exact match of the distilled": ("04_evaluation", "student | {} |"),
    "any length: seeds": ("04_evaluation", "all words unseen: {} seeds without a fault\n"),
    "patterns continued": ("04_evaluation", "patterns: sequence accuracy {} of"),
    "English to French of our grammar, exact match with att": (
        "04_evaluation",
        "translation with attention: exact match {} of",
    ),
    "English to French of our grammar, exact match without": (
        "04_evaluation",
        "translation without attention: exact match {} of",
    ),
}


@pytest.mark.parametrize("row", PRINTED)
def test_the_results_in_the_readme_are_those_of_the_notebooks(row):
    name, line = PRINTED[row]
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    pattern = rf"^\| {re.escape(row)}.*? \| (.+?) \| (\w+) \|$"
    measured, where = re.search(pattern, readme, re.M).groups()
    printed = "\n".join(text for cell in code_cells(name) for text in stored_text(cell))
    assert where == name and line.format(measured) in printed


def test_the_translations_in_the_readme_are_those_of_notebook_4():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    given, answers = re.search(
        r"helpers translate (.+)\n```\n\n```\n(.+?)\n```", readme, re.S
    ).groups()
    sources = " ".join(cell.source for cell in code_cells("04_evaluation"))
    printed = "\n".join(text for cell in code_cells("04_evaluation") for text in stored_text(cell))
    assert answers in printed
    assert all(f'"{sentence}"' in sources for sentence in re.findall('"(.+?)"', given))


def test_every_result_in_the_readme_is_checked():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(re.findall(r"^\|.*\| 0\d_\w+ \|$", readme, re.M)) == len(PRINTED)
