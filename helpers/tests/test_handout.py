"""The student edition: nothing of the solution is in it, and it works by itself."""

import ast
import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from helpers.course import handout
from helpers.course.rows import BY_LABEL, ROWS
from helpers.course.sheet import from_json, student_files
from helpers.course.source import body_of, definitions
from helpers.tests.test_cli import run
from helpers.tests.test_course_faults import results_here

FUNCTIONS = [(row, *name.split(".", 1)) for row in ROWS for name in row.functions]


@pytest.fixture(scope="module")
def edition(tmp_path_factory):
    folder = tmp_path_factory.mktemp("term") / "edition"
    handout.student_edition(folder)
    return folder


def check(folder, *rows):
    """What `python -m helpers check` says in a folder, without this project on the path."""
    env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    command = [sys.executable, "-m", "helpers", "check", *rows]
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def paste(folder, functions=FUNCTIONS):
    """Puts the solution's files in the place of the student's."""
    for module in {module for _, module, _ in functions}:
        shutil.copyfile(Path(handout.HERE.parent, f"{module}.py"), folder / f"helpers/{module}.py")


def test_points_add_up():
    assert sum(row.points for row in ROWS) == 88
    assert sum(row.points + row.to_read for row in ROWS) == 100
    assert list(BY_LABEL) == [f"A{i}" for i in range(1, 14)]
    for row in ROWS:
        assert len({check.name for check in row.checks}) == len(row.checks)
        assert row.checks or row.to_read
        assert bool(row.rubric) == bool(row.to_read) and len(row.rubric) in (0, 4)


@pytest.mark.parametrize(("row", "module", "name"), FUNCTIONS, ids=lambda x: str(x)[:20])
def test_what_is_missing_says_where_it_is_explained(row, module, name):
    """The docstring stays, and so does the signature."""
    source = Path(handout.HERE.parent, f"{module}.py").read_text(encoding="utf-8")
    ours = definitions(ast.parse(source))[name]
    theirs = definitions(ast.parse(student_files()[module]))[name]
    (raised,) = body_of(theirs)
    wanted = f"raise NotImplementedError('{row.label}, section {row.section}')"
    assert ast.unparse(raised) == wanted
    assert ast.get_docstring(theirs) == ast.get_docstring(ours)
    assert ast.unparse(theirs.args) == ast.unparse(ours.args)


def test_what_is_given_is_as_in_the_solution():
    for module, source in student_files().items():
        whole = Path(handout.HERE.parent, f"{module}.py").read_text(encoding="utf-8")
        missing = {name for _, of, name in FUNCTIONS if of == module}
        theirs, ours = (definitions(ast.parse(text)) for text in (source, whole))
        assert [*theirs] == [*ours]
        for name, node in ours.items():
            if name not in missing and not isinstance(node, ast.ClassDef):
                assert ast.dump(node) == ast.dump(theirs[name])


def test_no_line_of_the_solution_is_in_it(edition):
    lines = handout.solution_lines()
    assert len(lines) > 60
    assert "grads = [param.grad for param in params if param.grad is not None]" in lines
    assert handout.leaks(edition) == []


@pytest.mark.parametrize("name", ["README.md", "03_training.ipynb", "helpers/course/checks.json"])
def test_a_line_of_the_solution_would_be_noticed(edition, tmp_path, name):
    folder = tmp_path / "copy"
    shutil.copytree(edition, folder)
    line = next(x for x in handout.solution_lines() if '["mean"]' in x)
    path = folder / name
    text = json.dumps(line) if path.suffix != ".md" else line
    path.write_text(path.read_text(encoding="utf-8") + text, encoding="utf-8")
    assert {(path, line)} <= {*handout.leaks(folder)}


def test_what_is_in_it(edition):
    files = {path.relative_to(edition).as_posix() for path in edition.rglob("*") if path.is_file()}
    top = {name for name in files if "/" not in name}
    assert top == {"README.md", "requirements.txt", *(f"{x}.ipynb" for x in handout.NOTEBOOKS)}
    assert not any(name.startswith(("helpers/tests", "helpers/runs")) for name in files)
    sheet = from_json((edition / "helpers/course/checks.json").read_text(encoding="utf-8"))
    assert sheet.files == student_files()
    assert all(len(sheet.given[row.label]) == 1 for row in ROWS if row.checks)
    pinned = (edition / "requirements.txt").read_text(encoding="utf-8")
    assert len(pinned.splitlines()) == len(handout.PACKAGES) and "torch==" in pinned
    readme = (edition / "README.md").read_text(encoding="utf-8")
    assert all(f"| {row.label} " in readme for row in ROWS)


def test_one_row_at_a_time(edition):
    """Without a network, and without this project."""
    out = check(edition, "a11")
    assert "A11 0/1  matches" in out and "section 4.3" in out and "A12" not in out
    assert out.endswith("0 of 4 points\n")


@pytest.mark.parametrize("line", ["def half(", "import pandsa"])
def test_a_file_that_cannot_be_imported_costs_its_own_rows(edition, tmp_path, line):
    folder = tmp_path / "copy"
    shutil.copytree(edition, folder)
    paste(folder, [(None, "metrics", None)])
    path = folder / "helpers/training.py"
    path.write_text(path.read_text(encoding="utf-8") + f"\n{line}\n", encoding="utf-8")
    out = check(folder, "A4", "A11")
    assert "A4  0/2  count" in out and out.endswith("4 of 12 points\n")
    assert ("training.py, line" in out) == line.startswith("def")


def test_a_mistake_is_one_line(edition):
    command = [sys.executable, "-m", "helpers", "check", "A14"]
    done = subprocess.run(command, cwd=edition, capture_output=True, text=True)
    assert done.returncode == 2 and "must be A1 to A13, not 'A14'" in done.stderr
    assert done.stderr.count("\n") == 1 and "see python -m helpers check --help" in done.stderr


def test_the_untouched_edition_scores_nothing(edition):
    """Without a process of its own for each row."""
    sheet = from_json((edition / "helpers/course/checks.json").read_text(encoding="utf-8"))
    files = {
        module: (edition / f"helpers/{module}.py").read_text("utf-8") for module in sheet.files
    }
    for row in ROWS[:-1]:
        results = results_here(sheet, files, row.label)
        assert [result.check for result in results] == [*row.checks]
        for result in results:
            head = f"{row.label:3} 0/{result.check.points}  {result.check.name}: "
            assert result.line() == f"{head}not written yet (section {row.section})"


@pytest.mark.slow
def test_with_the_solution_pasted_in_all_is_right(edition, tmp_path):
    folder = tmp_path / "copy"
    shutil.copytree(edition, folder)
    paste(folder)
    lines = check(folder).splitlines()
    assert lines[-1].startswith("88 of 88 points; your teacher reads")
    assert all(f"{n}/{n}  " in line for line, n in zip(lines, points(), strict=False))


def points():
    return [one.points for row in ROWS for one in row.checks]


def test_a_folder_that_is_there_is_left_alone(tmp_path):
    (tmp_path / "edition").mkdir()
    (tmp_path / "edition" / "mine.txt").write_text("mine")
    _, err = run("handout", tmp_path / "edition", status=2)
    assert "is there already: name a new folder" in err and err.count("\n") == 1
    assert (tmp_path / "edition" / "mine.txt").read_text() == "mine"
    (tmp_path / "other-autograder.zip").write_text("mine")
    _, err = run("handout", tmp_path / "other", status=2)
    assert "remove it, or name another folder" in err and not (tmp_path / "other").exists()


def test_the_command_makes_an_edition_and_a_zip_file(tmp_path):
    out, _ = run("handout", tmp_path / "edition")
    archive = tmp_path / "edition-autograder.zip"
    assert str(tmp_path / "edition") in out and str(archive) in out
    assert sorted(path.name for path in tmp_path.iterdir()) == ["edition", archive.name]
    with zipfile.ZipFile(archive) as file:
        names = set(file.namelist())
        script, set_up = file.read("run_autograder").decode(), file.read("setup.sh").decode()
        file.extractall(tmp_path / "autograder")
    assert {"setup.sh", "run_autograder", "helpers/model.py"} <= names
    assert not any("tests" in name for name in names)
    assert script.startswith("#!") and "/autograder/results/results.json" in script
    assert "pip install torch==" in set_up and "tqdm==" in set_up
    command = [sys.executable, "-m", "helpers", "grade", "--help"]
    done = subprocess.run(command, cwd=tmp_path / "autograder", capture_output=True, text=True)
    assert done.returncode == 0 and "submission" in done.stdout


def test_the_readme_counts_what_there_is():
    text = " ".join((handout.ROOT / "README.md").read_text(encoding="utf-8").split())
    count = sum(len(row.checks) for row in ROWS)
    assert f"the {len(FUNCTIONS)} functions that a student writes" in text
    assert f"For each of the {count} checks" in text
