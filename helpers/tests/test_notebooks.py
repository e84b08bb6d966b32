"""The committed notebooks: complete, in order, clean. Closes what nbval does not compare."""

import ast
import re
from functools import cache
from statistics import median

import nbformat
import pytest

from helpers.course import pages
from helpers.course.pages import part_one
from helpers.tests.part_one import ROOT, run

PART_ONE, PART_TWO = "Part 1: The assignment", "Part 2: Beyond the assignment"
NAMES = ["01_data", "02_model", "03_training", "04_evaluation", "05_analysis"]
ROWS = [f"{kind}{i}" for kind, n in zip("ABCDEF", (13, 12, 4, 13, 9, 10), strict=True)
        for i in range(1, n + 1)]  # fmt: skip
SECTION = r"[1-5]\.\d{1,2}"  # the number of a section
LIST = rf"{SECTION}(?:(?:,|,? and| or| to|–|-) ?{SECTION})*"  # and of several


@cache
def read(name):
    return nbformat.read(ROOT / f"{name}.ipynb", as_version=4)


def code_cells(name):
    return [cell for cell in read(name).cells if cell.cell_type == "code"]


def stored_text(cell):
    for output in cell.get("outputs", []):
        yield output.get("text", "")
        for kind, data in output.get("data", {}).items():
            if not kind.startswith("image/"):
                yield data


def prose(cells):
    """The Markdown of some cells, without what is code."""
    text = "\n\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
    return re.sub(r"^```.*?^```", "", text, flags=re.M | re.S)


def headings(cells):
    """Pairs of a level and a text."""
    lines = re.findall(r"^(#+) +(.+?) *$", prose(cells), re.M)
    return [(len(marks), text) for marks, text in lines]


def sections(cells):
    """The titles of the sections, by their numbers."""
    titles = [text for level, text in headings(cells) if level == 2]
    return dict(title.partition(" ")[::2] for title in titles)


def parts(name):
    """The cells of Part 1, with all that stands before it, and those of Part 2."""
    first = part_one(read(name))
    return first, read(name).cells[len(first) :]


@cache
def all_sections():
    """The titles of the sections of all notebooks, by their numbers."""
    return dict(one for name in NAMES for one in sections(read(name).cells).items())


@cache
def sections_of_part_2():
    return {number for name in NAMES for number in sections(parts(name)[1])}


def labels(title):
    """Those at the end of a heading: "(B1, B2, B12)"."""
    in_brackets = re.search(r"\(((?:[A-G]\d+(?:, )?)+)\)$", title)
    return in_brackets[1].split(", ") if in_brackets else []


def numbers(text):
    """The sections that a list names: 2.14 to 2.16 are three."""
    named = []
    for first, last in re.findall(rf"({SECTION})(?: ?(?:to|–|-) ?({SECTION}))?", text):
        chapter, start = first.split(".")
        last = last or first
        same = last.startswith(f"{chapter}.")
        stop = int(last.split(".")[1]) if same else int(start)
        named += [f"{chapter}.{i}" for i in range(int(start), stop + 1)]
        named += [] if same else [last]
    return named


def called_sections(text):
    """The sections that are called by that word."""
    lists = re.findall(rf"\b[Ss]ections? ({LIST})(?! of (?:the|their|that) paper)", text)
    return [number for one in lists for number in numbers(one)]


def references(text):
    """In prose, also those in brackets alone, and in a line on needs."""
    lists = re.findall(rf"\(({LIST})\)", text)
    lists += re.findall(r"^\*Needs:(.*?)\*$", text, re.M | re.S)
    return called_sections(text) + [number for one in lists for number in numbers(one)]


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
            if re.match(r"(print|show|show_figure|Markdown|display)\(", last):
                assert cell.outputs, cell.source

    def test_nothing_is_ignored(self, name):
        for cell in code_cells(name):
            assert "NBVAL" not in cell.source and not cell.metadata.get("tags")

    def test_cells_are_short(self, name):
        lengths = [len(cell.source.splitlines()) for cell in code_cells(name)]
        assert max(lengths) <= 20 and median(lengths) <= 6

    def test_lines_fit_the_page(self, name):
        for cell in code_cells(name):
            assert max(map(len, cell.source.splitlines())) <= 79, cell.source

    def test_there_are_two_parts_and_numbered_sections(self, name):
        chapter, levels = name[1], headings(read(name).cells)
        question, *rest = [text for level, text in levels if level == 1]
        assert re.fullmatch(rf"{chapter}\. .+\?", question) and rest == [PART_ONE, PART_TWO]
        assert levels[0] == (1, question)
        titles = [text for level, text in levels if level == 2]
        expected = [f"{chapter}.{i}" for i in range(1, len(titles) + 1)]
        assert [title.split()[0] for title in titles] == expected
        first = [text for level, text in headings(parts(name)[0]) if level == 2]
        assert first[-1].endswith("Summary and exercises") and len(first) < len(titles)

    def test_every_figure_has_a_number_a_caption_and_words_for_the_blind(self, name):
        captions = []
        for cell in code_cells(name):
            assert "plt.show(" not in cell.source
            for i, output in enumerate(cell.outputs):
                if any(kind.startswith("image/") for kind in output.get("data", {})):
                    alt = output.metadata.get("image/png", {}).get("alt", "")
                    caption = cell.outputs[i + 1].data["text/markdown"]
                    assert len(alt.split()) >= 5 and alt not in caption, cell.source
                    captions.append(caption)
        heads = [caption.partition("** ")[0] for caption in captions]
        assert heads == [f"**Figure {name[1]}.{i}." for i in range(1, len(heads) + 1)]
        assert all(len(caption.partition("** ")[2].split()) >= 3 for caption in captions)
        markdown = [text for cell in code_cells(name) for text in stored_text(cell)]
        assert sum(text.startswith("**Figure") for text in markdown) == len(captions)

    def test_the_figures_that_are_referred_to_are_there(self, name):
        count = sum("show_figure(" in cell.source for cell in code_cells(name))
        for number in re.findall(r"\b[Ff]igures? (\d\.\d+)", prose(read(name).cells)):
            chapter, i = map(int, number.split("."))
            assert chapter != int(name[1]) or 1 <= i <= count

    def test_prose_with_numbers_is_read_once(self, name):
        """An f-string that makes prose is folded away: only what it makes is seen."""
        for cell in code_cells(name):
            last = ast.parse(cell.source).body[-1]
            if not (isinstance(last, ast.Expr) and ast.unparse(last).startswith("Markdown(")):
                continue
            words = [
                node.value
                for text in ast.walk(last)
                if isinstance(text, ast.JoinedStr)
                for node in text.values
                if isinstance(node, ast.Constant)
            ]
            if len(" ".join(words).split()) >= 15 and "|" not in "".join(words):
                assert cell.metadata.get("jupyter", {}).get("source_hidden"), cell.source

    def test_part_1_needs_nothing_beyond_the_assignment(self, name):
        """It imports from the top level of helpers alone; only the figure of 02 is elsewhere."""
        folders = {path.name for path in (ROOT / "helpers").iterdir() if path.is_dir()}
        for cell in parts(name)[0]:
            if cell.cell_type != "code":
                continue
            for module in imported(cell.source):
                package, _, rest = module.partition(".")
                beyond = package == "helpers" and rest.split(".")[0] in folders
                assert not beyond or (name == "02_model" and rest.startswith("models.diagram")), (
                    module
                )

    def test_part_1_does_not_mention_part_2(self, name):
        first, _ = parts(name)
        text = re.sub(r"`[^`]*`|\$[^$]*\$|[Ff]igures? \d\.\d+", "", prose(first))
        assert "Part 2" not in text
        mentioned = re.findall(rf"(?<![\d.,])({SECTION})(?!\d|\.\d| ?%)", text)
        code = "\n".join(cell.source for cell in first if cell.cell_type == "code")
        printed = "\n".join(out for cell in first for out in stored_text(cell))
        mentioned += called_sections(code) + called_sections(printed)
        assert not sections_of_part_2() & {
            *mentioned,
            *(n for one in re.findall(rf"(?<![\d.,]){LIST}(?!\d| ?%)", text) for n in numbers(one)),
        }

    def test_each_section_of_part_2_says_what_it_needs(self, name):
        text = prose(parts(name)[1])
        for title in sections(parts(name)[1]):
            after = re.search(rf"^## {re.escape(title)} .*\n+(.+(?:\n.+)*)", text, re.M)[1]
            assert re.fullmatch(r"\*Needs: [^*]+\*", after), f"{title}: {after}"

    def test_every_exercise_has_an_answer(self, name):
        last = prose(parts(name)[0]).rpartition("Summary and exercises")[2]
        exercises = re.split(r"^\*{0,2}\d\.\*{0,2} ", last, flags=re.M)[1:]
        assert 3 <= len(exercises) <= 5
        for exercise in exercises:
            question, answer, *more = exercise.split("<details><summary>Answer</summary>")
            assert not more and answer.rstrip().endswith("</details>") and question
            assert len(answer.split()) >= 10

    def test_sections_that_are_referred_to_exist(self, name):
        called = references(prose(read(name).cells))
        for cell in code_cells(name):
            called += [
                n for text in (cell.source, *stored_text(cell)) for n in called_sections(text)
            ]
        assert set(called) <= set(all_sections())


def imported(source):
    """The modules that some code imports, by their full names."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
            yield node.module


def test_part_1_is_short():
    cells = [cell for name in NAMES for cell in parts(name)[0] if cell.cell_type == "code"]
    assert len(cells) <= 150


def readme():
    return (ROOT / "README.md").read_text(encoding="utf-8")


def rows_of_the_readme():
    """Its table of requirements: where each is, as it stands there, by the label."""
    return dict(re.findall(r"^\| ([A-F]\d+) .*? \| (.+?) \|$", readme(), re.M))


def test_the_labels_of_the_assignment_stand_in_part_1():
    titles = [title for name in NAMES for title in sections(parts(name)[0]).values()]
    assert {f"A{i}" for i in range(1, 14)} <= {label for title in titles for label in labels(title)}


def test_every_row_is_somewhere():
    titles = {label for title in all_sections().values() for label in labels(title)}
    assert set(ROWS) <= titles | set(rows_of_the_readme()), "neither in a heading nor in the README"
    assert list(rows_of_the_readme()) == ROWS
    assert titles <= set(ROWS)


def test_the_readme_names_each_section_that_has_the_label():
    for number, title in all_sections().items():
        for label in labels(title):
            assert number in numbers(rows_of_the_readme()[label]), f"{label} is in {number}, too"


def test_the_sections_that_the_readme_names_exist():
    named = [number for where in rows_of_the_readme().values() for number in numbers(where)]
    route = re.search(r"^\| a student \|(.*)", readme(), re.M)[1]
    named += numbers(route) + references(readme())
    assert set(named) <= set(all_sections())
    assert not sections_of_part_2() & set(numbers(route)), "the way of a student is Part 1"
    first = [number for name in NAMES for number in sections(parts(name)[0])]
    assert numbers(route) == first, "all of it"


@pytest.mark.parametrize(
    "text, expected",
    [
        ("see section 2.3.", ["2.3"]),
        ("sections 2.14 to 2.16, and section 3.1", ["2.14", "2.15", "2.16", "3.1"]),
        ("(2.3 and 2.8), or 4.5", ["2.3", "2.8"]),
        ("Section 5.1–5.3", ["5.1", "5.2", "5.3"]),
        ("about 2.3 of 4.5, 97.25 %, section 3.1 of the paper", []),
        ("\n*Needs: the batch of 2.2, and 3.4.*\n", ["2.2", "3.4"]),
    ],
)
def test_what_counts_as_a_reference(text, expected):
    assert references(text) == expected


def notebook(*sources):
    """A small notebook: what begins with a # is Markdown."""
    cells = [
        nbformat.v4.new_markdown_cell(source)
        if source.startswith("#")
        else nbformat.v4.new_code_cell(source)
        for source in sources
    ]
    return nbformat.v4.new_notebook(cells=cells)


def test_part_1_is_all_before_part_2():
    whole = notebook("# 1. Why?", "1", f"# {PART_ONE}\n\n## 1.1", "2", f"# {PART_TWO}\n", "3")
    assert part_one(whole) == whole.cells[:4]
    with pytest.raises(ValueError, match="no Part 2"):
        part_one(notebook("# 1. Why?", f"text, # {PART_TWO}"))


@pytest.mark.slow
def test_both_editions_are_run_in_one_folder_each_and_an_error_is_noticed(
    tmp_path, capsys, monkeypatch
):
    (tmp_path / "helpers").mkdir()
    (tmp_path / "helpers" / "secret.py").write_text("number = 7\n")
    second = f"# {PART_TWO}"
    first = "from pathlib import Path", "Path('a').write_text('1')", second, "1 / 0"
    nbformat.write(notebook(*first), tmp_path / "01_a.ipynb")
    last = "from pathlib import Path; from helpers.secret import number", "Path('a').read_text()"
    other = notebook(*last, "print(number)", second)
    nbformat.write(other, tmp_path / "02_b.ipynb")
    assert run(tmp_path) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [re.sub(r"\d+ s", "0 s", line) for line in lines] == [
        f"{edition}{of}, 0 s"
        for edition in ("Part 1", "student edition")
        for of in (", 01_a: 2 code cells", ", 02_b: 3 code cells", ": 5 code cells")
    ]
    assert not (tmp_path / "a").exists()
    table = tmp_path / "table.md"
    table.write_text(f"=== 02_b {other.cells[0].id}\n\n```python\n1 / 0\n```\n")
    monkeypatch.setattr(pages, "TABLE", table)
    assert run(tmp_path) == 1
    shown = capsys.readouterr()
    assert "student edition, 02_b: failed" in shown.out and "ZeroDivisionError" in shown.err


# The rows of the README's table of results. A row begins as the key says; its second column is
# printed by that notebook in the place of {}.
PRINTED = {
    "exact match (the whole": ("04_evaluation", "exact match    {} "),
    "its 95 % interval": ("04_evaluation", "95 % interval  {}\n"),
    "token accuracy": ("04_evaluation", "token accuracy {}\n"),
    "alignment accuracy": ("04_evaluation", "alignment accuracy {}\n"),
    "exact match of ten seeds, mean": ("04_evaluation", "10 seeds: exact match {} in the mean"),
    "exact match of ten seeds, range": ("04_evaluation", "in the mean, {}\n"),
    "exact match without the attention": ("04_evaluation", "10 seeds: {} in the mean"),
    "lines of the Zen": ("04_evaluation", "{} lines reversed without a fault\n"),
    "attention weight on padding": ("04_evaluation", "weights on padding, the largest is {}\n"),
    "exact match of the same": ("05_analysis", "weights {} are right"),
    "integers, exact match with": ("04_evaluation", "| GRU, Bahdanau | {} |"),
    "integers, exact match without": ("04_evaluation", "| GRU, no attention | {} |"),
    "integers, exact match of the Trans": ("04_evaluation", "| Transformer | {} |"),
    "patterns continued": ("04_evaluation", "patterns: sequence accuracy {} of"),
    "English to French": ("04_evaluation", "GRU, Bahdanau: exact match {} of"),
    "captions of Multi30k": ("04_evaluation", "BLEU {} (greedy, beam of 5)\n"),
    "a book of 30,444": ("04_evaluation", "trained on our grammar: {} lines without a fault"),
    "trained on a GPU": ("03_training", "reverses\n{} of its test sentences"),
    "any length: one line": ("04_evaluation", "1,000,000 words: {}\n"),
    "any length: seeds": ("04_evaluation", "all words unseen: {} seeds without a fault\n"),
}


@pytest.mark.parametrize("row", PRINTED)
def test_the_results_in_the_readme_are_those_of_the_notebooks(row):
    name, line = PRINTED[row]
    pattern = rf"^\| {re.escape(row)}.*? \| (.+?) \| (\w+) \|$"
    measured, where = re.search(pattern, readme(), re.M).groups()
    printed = "\n".join(text for cell in code_cells(name) for text in stored_text(cell))
    assert where == name and line.format(measured) in printed


def test_the_translations_in_the_readme_are_those_of_notebook_4():
    given, answers = re.search(
        r"helpers translate (.+)\n```\n\n```\n(.+?)\n```", readme(), re.S
    ).groups()
    sources = " ".join(cell.source for cell in code_cells("04_evaluation"))
    printed = "\n".join(text for cell in code_cells("04_evaluation") for text in stored_text(cell))
    assert answers in printed
    assert all(f'"{sentence}"' in sources for sentence in re.findall('"(.+?)"', given))


def test_what_the_notebooks_read_is_handed_on_with_them():
    """The stored results, which are among files that are not."""
    kept = (ROOT / ".gitignore").read_text()
    read = {name for notebook in NAMES for cell in code_cells(notebook)
            for name in re.findall(r'"(results/[\w.]+)"', cell.source)}  # fmt: skip
    assert len(read) > 7 and all(f"!{name}\n" in kept and (ROOT / name).exists() for name in read)


def test_every_result_in_the_readme_is_checked():
    assert PRINTED and len(re.findall(r"^\|.*\| 0\d_\w+ \|$", readme(), re.M)) == len(PRINTED)
