"""A pile of submissions: what is read of them, and what a teacher gets."""

import csv
import json
import os
import zipfile

import pytest

from helpers.course import grading
from helpers.course.examine import Result, lost
from helpers.course.rows import BY_LABEL, ROWS
from helpers.course.sheet import make_sheet
from helpers.tests.test_cli import run
from helpers.tests.test_handout import FUNCTIONS

GRADED = [row for row in ROWS if row.checks]


@pytest.fixture(scope="module")
def sheet():
    return make_sheet(seed=3, sets=1)


def all_right(row):
    return [Result(row, check, check.points, None) for check in row.checks]


def solution_of(module):
    from helpers.course.handout import HERE

    return (HERE.parent / f"{module}.py").read_text(encoding="utf-8")


def submission(folder, **files):
    """A folder with a student's `helpers`."""
    (folder / "helpers").mkdir(parents=True)
    for name, text in files.items():
        (folder / "helpers" / f"{name}.py").write_text(text, encoding="utf-8")
    return folder


def test_where_files_may_be(tmp_path, capsys):
    submission(tmp_path / "anna", model="A", optim="B")
    (tmp_path / "flat").mkdir()
    (tmp_path / "flat" / "model.py").write_text("C")
    submission(tmp_path / "deep" / "homework", model="D")
    submission(tmp_path / "again", model="no")
    (tmp_path / "again" / "helpers").rename(tmp_path / "again" / "helpers (1)")
    submission(tmp_path / "again", model="G")
    submission(tmp_path / "copy", model="H")
    (tmp_path / "copy" / "helpers").rename(tmp_path / "copy" / "helpers (12)")
    with zipfile.ZipFile(tmp_path / "zipped.zip", "w") as archive:
        archive.writestr("__MACOSX/helpers/model.py", "no")
        archive.writestr("old_helpers/model.py", "no")
        archive.writestr("work/helpers (1)/model.py", "no")
        archive.writestr("work/helpers/model.py", "E")
    (tmp_path / "notes.txt").write_text("none")
    submission(tmp_path / "anna.b" / "more" / "and" / "more", model="F")
    (tmp_path / "moodle_1").mkdir()
    (tmp_path / "zipped.zip").rename(tmp_path / "moodle_1" / "zipped.zip")
    paths = grading.find_submissions(tmp_path)
    assert [path.name for path in paths] == [
        *("again", "anna", "anna.b", "copy", "deep", "flat", "moodle_1")
    ]
    assert "notes.txt is no folder and no zip file" in capsys.readouterr().err
    texts = [grading.read_submission(path) for path in paths]
    rest = [{"model": letter} for letter in "FHDCE"]
    assert texts == [{"model": "G"}, {"model": "A", "optim": "B"}, *rest]
    assert grading.find_submissions(tmp_path / "anna") == [tmp_path / "anna"]
    zipped = tmp_path / "moodle_1" / "zipped.zip"
    assert grading.find_submissions(zipped) == [zipped] and grading.name_of(zipped) == "zipped"
    assert grading.name_of(tmp_path / "anna.b") == "anna.b"


def test_what_cannot_be_read_is_left_out(tmp_path):
    folder = submission(tmp_path / "anna", model="A", optim="x" * (grading.LARGEST + 1))
    (folder / "helpers" / "metrics.py").write_bytes(b"\xff\xfe\x00")
    (tmp_path / "secret.py").write_text("S")
    (folder / "helpers" / "training.py").symlink_to(tmp_path / "secret.py")
    assert grading.read_submission(folder) == {"model": "A"}
    (tmp_path / "broken.zip").write_bytes(b"PK\x03\x04 and no more")
    assert grading.read_submission(tmp_path / "broken.zip") == {}
    (tmp_path / "eve").mkdir()
    (tmp_path / "eve" / "helpers").symlink_to(folder / "helpers")  # the work of another
    assert grading.read_submission(tmp_path / "eve") == {}
    with zipfile.ZipFile(tmp_path / "odd.zip", "w", zipfile.ZIP_BZIP2) as archive:
        archive.writestr("helpers/model.py", "x")
    with zipfile.ZipFile(tmp_path / "windows.zip", "w") as archive:
        archive.writestr("work\\helpers\\model.py", "W")
    assert grading.read_submission(tmp_path / "odd.zip") == {}
    assert grading.read_submission(tmp_path / "windows.zip") == {"model": "W"}


def test_a_report_takes_any_characters(tmp_path):
    results = {row.label: all_right(row) for row in GRADED}
    results["A6"] = lost(BY_LABEL["A6"], "came \ud800")
    grading.report(tmp_path, results, [])
    assert "\\ud800" in (tmp_path / "report.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", ["none", "empty", "twice", "text.zip"])
def test_a_pile_that_is_none(tmp_path, name):
    (tmp_path / "empty").mkdir()
    (tmp_path / "twice" / "anna").mkdir(parents=True)
    (tmp_path / "text.zip").write_text("text")
    with zipfile.ZipFile(tmp_path / "twice" / "anna.zip", "w") as archive:
        archive.writestr("helpers/model.py", "")
    _, err = run("grade", tmp_path / name, "--csv", tmp_path / "grades.csv", status=2)
    says = {"none": "does not exist", "empty": "holds no submission", "twice": "is called anna"}
    says["text.zip"] = "is no folder and no zip file"
    assert says[name] in err and err.count("\n") <= 2 and not (tmp_path / "grades.csv").exists()


def test_results_are_written_before_the_first_row_and_after_each(tmp_path, monkeypatch, sheet):
    scores = []

    def examine(sheet, files, user):
        for row in GRADED:
            scores.append(json.loads((tmp_path / "anna" / "results.json").read_text())["score"])
            yield all_right(row)

    monkeypatch.setattr(grading, "examine", examine)
    results = grading.grade(sheet, tmp_path, tmp_path / "anna", None)
    assert scores[:4] == [0, 10, 26, 34] and len(scores) == 12
    assert sum(result.points for result in results) == 88
    assert sorted(path.name for path in (tmp_path / "anna").iterdir()) == [
        "report.md",
        "results.json",
    ]


def test_what_gradescope_reads(tmp_path):
    results = {row.label: all_right(row) for row in GRADED}
    results["A6"] = lost(BY_LABEL["A6"], "came nothing")
    grading.report(tmp_path, results, ["A6 uses clip_grad_norm_"])
    content = json.loads((tmp_path / "results.json").read_text())
    assert content["score"] == 80 and "A12 (2), A13 (10)" in content["output"]
    *tests, note = content["tests"]
    assert sum(test["max_score"] for test in tests) == 88
    assert sum(test["score"] for test in tests) == 80
    keys = {"name", "number", "score", "max_score", "output", "status", "visibility"}
    assert all(test.keys() == keys for test in tests)
    assert {test["visibility"] for test in tests} == {"visible"}
    assert [test["name"] for test in tests if test["status"] == "failed"] == [
        "A6 norm",
        "A6 one factor",
        "A6 short gradients",
    ]
    assert len({test["number"] for test in tests}) == len(tests)
    assert note["visibility"] == "hidden" and note["max_score"] == 0
    text = (tmp_path / "report.md").read_text(encoding="utf-8")
    assert "80 of 88 points by machine" in text and "A6 uses clip_grad_norm_" in text
    assert all(sentence in text for row in ROWS for sentence in row.rubric)


def test_the_table(tmp_path):
    whole = [result for row in GRADED for result in all_right(row)]
    none = [result for row in GRADED for result in lost(row, "")]
    path = tmp_path / "grades.csv"
    table = grading.Table(path)
    table.put("anna", whole)
    table.put("=1+1", none)
    head, first, second = csv.reader(path.open(encoding="utf-8"))
    assert head[0] == "student" and head[1] == "A1" and head[-3] == "by machine"
    assert first == ["anna", *(str(row.points) for row in GRADED), "88", "", ""]
    assert second[0] == "'=1+1" and second[-3] == "0"  # no formula of a spreadsheet
    table.lines["anna"][-2:] = ["2", "9"]  # by the teacher
    table.put("=1+1", none)
    grading.Table(path).put("anna", none)
    assert grading.Table(path).lines["anna"][-3:] == ["0", "2", "9"]


@pytest.mark.parametrize("mark", ["", "\ufeff"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_a_table_that_a_spreadsheet_has_saved(tmp_path, delimiter, mark):
    """It is written as it was read."""
    path, none = tmp_path / "grades.csv", [r for row in GRADED for r in lost(row, "")]
    grading.Table(path).put("anna", none)
    with path.open("w", encoding="utf-8", newline="") as file:
        file.write(mark)
        writer = csv.writer(file, delimiter=delimiter, quoting=csv.QUOTE_ALL)
        zeros = ["0"] * len(grading.HEAD[1:])
        writer.writerow([*grading.COLUMNS, ""])
        writer.writerows([['J\xf6rg; Ren\xe9, "R"', *zeros, "2", "9", "late"], []])
        writer.writerow([""] * len(grading.COLUMNS))
    grading.Table(path).put("anna", none)
    text = path.read_text(encoding="utf-8")
    assert text.startswith(f"{mark}student{delimiter}A1")
    lines = grading.Table(path).lines
    assert [*lines] == ['J\xf6rg; Ren\xe9, "R"', "anna"]
    assert lines['J\xf6rg; Ren\xe9, "R"'][-3:] == ["2", "9", "late"]


@pytest.mark.parametrize(
    "rest, message",
    [
        (None, "no table of grades"),
        (b"J\xf6rg,10\n", "not UTF-8 text"),
        (b"anna,10\nanna,0\n", "two lines of anna"),
        (b'"' + 200_000 * b"x", "no table of grades"),
    ],
)
def test_another_table_is_refused(tmp_path, rest, message):
    path = tmp_path / "grades.csv"
    head = ",".join(grading.COLUMNS).encode() + b"\n"
    content = b"my own\n" if rest is None else head + rest
    path.write_bytes(content)
    (tmp_path / "anna").mkdir()
    (tmp_path / "anna" / "model.py").write_text("")
    _, err = run("grade", tmp_path / "anna", "--csv", path, status=2)
    assert message in err and err.count("\n") == 1 and path.read_bytes() == content


def test_names_that_do_the_work_are_told_and_cost_nothing(sheet):
    files = {module: solution_of(module) for _, module, _ in FUNCTIONS}
    assert grading.suspicious(sheet, files) == []
    body = "torch.nn.utils.clip_grad_norm_(params, max_norm)"
    line = "    params = [params] if isinstance(params, Tensor) else params\n"
    files["optim"] = files["optim"].replace(line, f"{line}    {body}\n")
    files["metrics"] = files["metrics"].replace(
        "    right = matches(hypotheses, references)\n",
        "    right = matches(hypotheses, references)\n    import os.path\n",
    )
    files["model"] = "def syntax error"
    assert grading.suspicious(sheet, files) == ["A6 uses clip_grad_norm_", "A11 uses os"]


@pytest.mark.slow
def test_two_submissions(tmp_path):
    """Nothing; and one that lacks only the correction of Adam's mean and the -inf."""
    names = {module for _, module, _ in FUNCTIONS}
    whole = {module: solution_of(module) for module in names}
    pile = tmp_path / "pile"
    submission(pile / "ben", model="")
    faulty = dict(whole)
    faulty["optim"] = faulty["optim"].replace(" / (1 - beta1**t) for", " for")
    faulty["model"] = faulty["model"].replace("~mask, -torch.inf", "~mask, -1e9")
    with zipfile.ZipFile(tmp_path / "cara.zip", "w") as archive:
        for name, text in faulty.items():
            archive.writestr(f"cara/helpers/{name}.py", text)
    (tmp_path / "cara.zip").rename(pile / "cara.zip")
    out, err = run("grade", pile, "--seed", 5, "--csv", tmp_path / "term.csv")
    assert err.endswith(f"table: {tmp_path / 'term.csv'}, reports: {tmp_path / 'term'}{os.sep}\n")
    assert [line.strip() for line in out.splitlines()] == ["ben: 0", "cara: 82"]
    rows = {row["student"]: row for row in csv.DictReader((tmp_path / "term.csv").open())}
    points = {row.label: str(row.points) for row in GRADED} | {"A5": "9", "A2": "15"}
    assert {label: rows["cara"][label] for label in points} == points
    assert rows["ben"]["by machine"] == "0" and rows["cara"]["by machine"] == "82"
    text = (tmp_path / "term" / "ben" / "report.md").read_text(encoding="utf-8")
    assert "there is no function Encoder.forward" in text and "there is no file optim.py" in text
