"""The pages of the student edition: complete, and without the solution. `part_one.py` runs them."""

import ast
import inspect
import json
import re
import textwrap
from copy import deepcopy
from functools import cache

import nbformat
import pytest

from helpers import decoding, metrics, model, optim, training
from helpers.course import pages
from helpers.course.pages import BLANK, part_one, read_table, student_page, text_of
from helpers.tests.part_one import ROOT
from helpers.tests.test_notebooks import NAMES, prose, references, sections

TO_WRITE = [
    *(model.Encoder.forward, model.AdditiveAttention.forward, model.look_up),
    *(model.Decoder.step, model.Decoder.forward),
    *(training.masked_cross_entropy, training.is_best, training.save_best, training.mean_loss),
    *(optim.Adam.step, optim.Adam._update, optim.clip_grad_norm),
    *(decoding.greedy, metrics.matches, metrics.exact_match, metrics.token_accuracy),
    metrics.alignment_accuracy,
]
QUESTIONS = [
    "Which patterns do the attention weights show?",
    "Are input and output tokens aligned correctly?",
    "How does attention help to reverse a sequence?",
    "What happens at the beginning and at the end of a sequence?",
]
# The cells of notebook 5 that state what was measured.
FINDINGS = ["28228551", "5975d217", "3e0c3110", "d5d51920", "420117fc", "420117fd", "7106befc"]
GIVEN = "x(x.src, x.src_lens, x.trg_in)"  # how a model is called, also in `train_step`


@cache
def stored(name):
    return json.loads((ROOT / f"{name}.ipynb").read_text(encoding="utf-8"))


@cache
def page(name):
    return student_page(name, stored(name))


def as_cells(name):
    """The cells as nbformat reads them, for the functions that look for sections."""
    return nbformat.reads(json.dumps(page(name)), as_version=4).cells


def cells(name, kind):
    return [text_of(cell) for cell in page(name)["cells"] if cell["cell_type"] == kind]


def squeezed(text):
    return " ".join(text.split())


def whole(name):
    return squeezed("\n".join(map(text_of, page(name)["cells"])))


def body(function):
    """The statements of a function, without the docstring, and its lines, without comments that
    end one.
    """
    source = textwrap.dedent(inspect.getsource(inspect.unwrap(function)))
    tree = ast.parse(source).body[0]
    statements = tree.body[1:] if ast.get_docstring(tree) else tree.body
    lines = source.splitlines()[statements[0].lineno - 1 :]
    return statements, [line.split("  #")[0].strip() for line in lines]


def nameless(node):
    """A piece of code in which each name is one and the same."""
    node = deepcopy(node)
    for part in ast.walk(node):
        if isinstance(part, ast.Name):
            part.id = "x"
        elif isinstance(part, ast.arg):
            part.arg = "x"
    return ast.unparse(node)


def expressions(nodes, least=25):
    """All the expressions in some code, nameless, that are not short."""
    pieces = {nameless(x) for node in nodes for x in ast.walk(node) if isinstance(x, ast.expr)}
    return {piece for piece in pieces if len(piece) >= least}


def test_every_cell_of_the_table_is_in_part_1():
    assert set(read_table()) <= set(NAMES)
    for name, changes in read_table().items():
        assert set(changes) <= {cell["id"] for cell in part_one(stored(name))}, name


@pytest.mark.parametrize(
    "entry, message",
    [
        ("=== 02_model nothing\n\nnew\n", "02_model has no cell nothing"),
        ("=== 02_model a845b186 edit\nnot in it\n=>\nnew\n", "not once in the cell a845b186"),
        ("=== 02_model a845b186 edit\nthe\n=>\nnew\n", "not once in the cell a845b186"),
    ],
)
def test_a_table_that_does_not_fit_is_refused(entry, message, tmp_path, monkeypatch):
    table = tmp_path / "table.md"
    table.write_text(entry, encoding="utf-8")
    monkeypatch.setattr(pages, "TABLE", table)
    with pytest.raises(ValueError, match=message):
        student_page("02_model", stored("02_model"))
    assert student_page("01_data", stored("01_data"))["cells"], "no entry, no change"


def test_a_notebook_with_no_part_2_is_refused():
    with pytest.raises(ValueError, match="no Part 2"):
        student_page("06_more", {"cells": []})


def test_what_an_entry_does(tmp_path, monkeypatch):
    texts = {"kept": "1 + 1", "gone": "2 + 2", "new": "3 + 3", "edited": "4 + 4\n5 + 5"}
    code = {"cell_type": "code", "metadata": {"a": 1}, "execution_count": 1, "outputs": [1]}
    whole = {"cells": [code | {"id": id_, "source": [text]} for id_, text in texts.items()]}
    whole["cells"].append({"cell_type": "markdown", "id": "end", "source": ["# Part 2\n"]})
    table = tmp_path / "table.md"
    entries = "=== a gone\n\n=== a new\n\n# A title\n+++\n```python\n6\n7\n```\n+++\nThe end\n\n"
    table.write_text(entries + "=== a edited edit\n4 + 4\n=>\n8 + 8\n", encoding="utf-8")
    monkeypatch.setattr(pages, "TABLE", table)
    before = deepcopy(whole)
    after = student_page("a", whole)
    assert whole == before, "the notebook that is given stays as it is"
    rows = [(cell["id"], cell["cell_type"], text_of(cell)) for cell in after["cells"]]
    assert rows == [
        ("kept", "code", "1 + 1"),
        ("new", "markdown", "# A title"),
        ("new-2", "code", "6\n7"),
        ("new-3", "markdown", "The end"),
        ("edited", "code", "8 + 8\n5 + 5"),
    ]
    assert after["cells"][2]["source"] == ["6\n", "7"]
    assert [cell["metadata"] for cell in after["cells"]] == [{"a": 1}, {}, {}, {}, {"a": 1}]


@pytest.mark.parametrize("name", NAMES)
class TestPage:
    def test_it_is_a_notebook(self, name):
        nbformat.validate(page(name))
        ids = [cell["id"] for cell in page(name)["cells"]]
        assert len(set(ids)) == len(ids)

    def test_it_has_nothing_of_part_2_and_begins_as_the_notebook(self, name):
        first = part_one(stored(name))
        beyond = {cell["id"] for cell in stored(name)["cells"][len(first) :]}
        ids = [cell["id"] for cell in page(name)["cells"]]
        assert beyond and not beyond & set(ids) and ids[0] == first[0]["id"]
        assert not re.search(r"Part [12]|worked solution|Beyond the assignment", whole(name))
        assert "\n# The assignment\n" in "\n" + "\n".join(cells(name, "markdown")) + "\n"

    def test_it_has_no_outputs_and_no_answers_to_exercises(self, name):
        for cell in page(name)["cells"]:
            assert not cell.get("outputs") and cell.get("execution_count") is None
        assert not re.search("</?(details|summary)>", whole(name))
        exercises = cells(name, "markdown")[-1]
        count = text_of(part_one(stored(name))[-1]).count("<details>")
        assert len(re.findall(r"^\*{0,2}\d\.\*{0,2} ", exercises, re.M)) == count >= 4

    def test_the_code_is_code_and_fits_the_page(self, name):
        for source in cells(name, "code"):
            ast.parse(source)
            assert len(source.splitlines()) <= 20, source
            assert max(map(len, source.splitlines())) <= 79, source

    def test_what_was_added_is_no_wider_than_the_text(self, name):
        before = {line for cell in part_one(stored(name)) for line in text_of(cell).splitlines()}
        for text in cells(name, "markdown"):
            for line in set(text.splitlines()) - before:
                assert len(line) <= 101 or line.startswith("|"), line

    def test_the_sections_that_it_refers_to_are_in_the_student_edition(self, name):
        named = references(prose(as_cells(name)))
        there = {n for one in NAMES for n in sections(as_cells(one))}
        assert set(named) <= there

    def test_it_has_no_line_of_the_solution(self, name):
        for function in TO_WRITE:
            lines = [squeezed(line) for line in body(function)[1] if len(line) >= 25]
            assert not [line for line in lines if line in whole(name)], function.__qualname__

    def test_it_has_no_expression_of_the_solution_under_other_names(self, name):
        on_page = expressions(ast.parse(source) for source in cells(name, "code"))
        for function in TO_WRITE:
            shared = expressions(body(function)[0]) & on_page
            assert shared <= {GIVEN}, function.__qualname__


def test_the_lines_of_the_solution_are_seen_where_there_are_some():
    """The notebook itself has lines of the solution, with its names and with others."""
    code = [text_of(cell) for cell in stored("02_model")["cells"] if cell["cell_type"] == "code"]
    assert any("logits, weights, state = model.next_word(ids, state)" in text for text in code)
    assert "logits, weights, state = model.next_word(ids, state)" in body(decoding.greedy)[1]
    summed = expressions(body(model.look_up)[0])
    other = ast.parse("c = torch.bmm(a.unsqueeze(1), h).squeeze(1), a")
    assert expressions([other]) & summed


def test_the_answers_are_blank():
    blank = {name: [text for text in cells(name, "markdown") if BLANK in text] for name in NAMES}
    assert [len(blank[name]) for name in NAMES] == [0, 0, 0, 1, 4]
    for texts in blank.values():
        assert all(text.endswith(f"\n\n{BLANK}") for text in texts)
    for i, (text, question) in enumerate(zip(blank["05_analysis"], QUESTIONS, strict=True), 1):
        head, needed, _ = text.split("\n\n")
        assert re.fullmatch(re.escape(f"**Question {i}. {question}**") + r" \([23] points\)", head)
        assert re.search(r"\bnumber\b", needed) and re.search(r"\bsection\b", needed)


def test_no_finding_is_told():
    """No seven words in a row of what the solution says it has measured, but for the questions."""
    told = []
    for cell in part_one(stored("05_analysis")):
        if cell["id"] in FINDINGS:
            lines = text_of(cell).partition("Change one thing")[0].splitlines()
            told.append(" ".join(line for line in lines if "(A13)" not in line))
            shown = [output["data"].get("text/markdown", []) for output in cell.get("outputs", [])]
            told += map("".join, shown)
    words = [squeezed(text).split() for text in told]
    runs = {" ".join(some[i : i + 7]) for some in words for i in range(len(some) - 6)}
    assert len(runs) > 500
    asked = squeezed(" ".join([*QUESTIONS, *sections(as_cells("05_analysis")).values()]))
    for name in NAMES:
        assert not [run for run in runs if run in whole(name) and run not in asked]


def test_the_points_add_up():
    brief = next(text for text in cells("01_data", "markdown") if "## 1.1" in text)
    rows = re.findall(r"^\| (A\d+) \|.*\| ([\d +]+) \|$", brief, re.M)
    assert [label for label, _ in rows] == [f"A{i}" for i in range(1, 14)]
    assert sum(int(n) for _, points in rows for n in points.split("+")) == 100
    for function in TO_WRITE:
        assert f"`{function.__qualname__}`" in brief


def test_a_page_makes_the_heatmap_that_is_handed_in():
    assert sum("attention_heatmap.png" in text for text in cells("04_evaluation", "code")) == 1
