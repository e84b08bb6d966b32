"""The student edition, made from the solution: `python -m helpers handout DIR`."""

import argparse
import inspect
import json
import shutil
import zipfile
from pathlib import Path
from tempfile import TemporaryDirectory

from helpers.course.pages import student_page
from helpers.course.rows import ROWS
from helpers.course.sheet import MODULES, make_sheet, solution, student_files, to_json
from helpers.course.source import functions, long_lines

ROOT = Path(__file__).parents[2]
HERE = Path(__file__).parent
NOTEBOOKS = ("01_data", "02_model", "03_training", "04_evaluation", "05_analysis")
COURSE = ("checks", "rows", "runner", "source", "sheet", "examine", "flags", "door")  # of a check
PACKAGES = "torch numpy pandas matplotlib seaborn jupyterlab ipython pygments nbconvert".split()
ABSENT = ("tasks/", "search/", "commands/", "pages.py", "handout.py", "grading.py")
DOOR = '''"""python -m helpers {name}"""

import sys

from helpers.course.door import main

sys.exit(main("{name}", "{module}"))
'''
SET_UP = """#!/usr/bin/env bash
set -euo pipefail
apt-get install -y python3-venv || true
python3 -m venv /autograder/venv
/autograder/venv/bin/pip install {packages} --extra-index-url https://download.pytorch.org/whl/cpu
"""
RUN = """#!/usr/bin/env bash
mkdir -p /autograder/pile
ln -sfn /autograder/submission /autograder/pile/submission
cd /autograder/source
/autograder/venv/bin/python -m helpers grade /autograder/pile --csv /autograder/grades.csv
cp /autograder/grades/submission/results.json /autograder/results/results.json ||
    echo '{"score": 0, "output": "The grader failed."}' > /autograder/results/results.json
"""


def run(args: argparse.Namespace) -> None:
    """Writes the student edition and the zip file for Gradescope; says where they are."""
    folder = args.folder.absolute()
    archive = folder.with_name(folder.name + "-autograder.zip")
    if not folder.parent.is_dir():
        raise ValueError(f"{folder.parent} is no folder")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ValueError(f"{folder} is there already: name a new folder")
    if archive.exists():
        raise ValueError(f"{archive} is there already: remove it, or name another folder")
    with TemporaryDirectory(dir=folder.parent) as place:
        edition = Path(place, "edition")
        student_edition(edition)
        autograder(Path(place, "autograder"), Path(place, "autograder.zip"))
        if folder.exists():
            folder.rmdir()  # it is empty
        edition.rename(folder)
        Path(place, "autograder.zip").rename(archive)
    print(f"for students: {folder}")
    print(f"for Gradescope, with the solution in it: {archive}")


def student_edition(folder: Path) -> None:
    """Writes all files of it. Raises ValueError if a line of the solution is among them."""
    course = folder / "helpers" / "course"
    course.mkdir(parents=True)
    for name in NOTEBOOKS:
        page = json.loads((ROOT / f"{name}.ipynb").read_text(encoding="utf-8"))
        text = json.dumps(student_page(name, page), indent=1, ensure_ascii=False)
        (folder / f"{name}.ipynb").write_text(text + "\n", encoding="utf-8")
    for name in ("__init__", "grammar", "plotting", "notebook"):
        copy_module(f"{name}.py", folder / "helpers")
    (folder / "helpers" / "models").mkdir()
    (folder / "helpers" / "models" / "__init__.py").touch()
    copy_module("models/diagram.py", folder / "helpers")
    for name, source in student_files().items():
        (folder / "helpers" / f"{name}.py").write_text(source, encoding="utf-8")
    for name in ("__init__", *COURSE, "check"):
        copy_module(f"course/{name}.py", folder / "helpers")
    door = DOOR.format(name="check", module="check")
    (folder / "helpers" / "__main__.py").write_text(door, encoding="utf-8")
    sheet = to_json(make_sheet(seed=0, sets=1))
    (course / "checks.json").write_text(sheet + "\n", encoding="utf-8")
    (folder / "requirements.txt").write_text(requirements(PACKAGES), encoding="utf-8")
    (folder / "README.md").write_text(readme(), encoding="utf-8")
    for path in (folder / "helpers" / "__init__.py", course / "__init__.py"):
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
        path.write_text("".join(line for line in lines if not line.startswith(ABSENT)), "utf-8")
    for path, line in leaks(folder):
        raise ValueError(f"{path.relative_to(folder)} has a line of the solution: {line}")


def copy_module(name: str, house: Path) -> None:
    shutil.copyfile(HERE.parent / name, house / name)


def requirements(packages: list[str]) -> str:
    """The lines of the project's own file that pin these packages."""
    lines = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    return "".join(line + "\n" for line in lines if line.split("==")[0] in packages)


def readme() -> str:
    """What a student is told, with the table of rows."""
    rows = []
    for row in ROWS:
        functions = ", ".join(f"`{name}`" for name in row.functions) or "in 5.1"
        points = f"{row.points + row.to_read}"
        if row.to_read:
            points += f" ({row.to_read} read by the teacher)"
        rows.append(f"| {row.label} {row.title} | {functions} | {points} | {row.section} |")
    text = (HERE / "student.md").read_text(encoding="utf-8")
    return text.replace("{table}", "\n".join(rows))


def solution_lines() -> set[str]:
    """The lines of 25 characters or more that only the functions of the table have; one that is a
    part of a line of another function is no secret.
    """
    whole, given = set(), set()
    for name, module in solution():
        source = inspect.getsource(module)
        ours = {function.partition(".")[2] for row in ROWS for function in row.functions
                if function.startswith(f"{name}.")}  # fmt: skip
        others = functions(source) - ours
        whole |= long_lines(source, ours)
        given |= long_lines(source, others)
    return {line for line in whole if not any(line in other for other in given)}


def leaks(folder: Path) -> list[tuple[Path, str]]:
    """Files below a folder in which a line of the solution occurs, and that line."""
    lines, known = solution_lines(), []
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            text = path.read_text(encoding="utf-8", errors="replace")
            text = text.replace('\\"', '"')  # as notebooks write it
            known += [(path, line) for line in sorted(lines) if line in text]
    return known


def autograder(folder: Path, archive: Path) -> None:
    """Gradescope's zip file: the solution, the grader, and two scripts."""
    course = folder / "helpers" / "course"
    course.mkdir(parents=True)
    for name in ("__init__", *MODULES):
        copy_module(f"{name}.py", folder / "helpers")
    for name in ("__init__", *COURSE, "grading"):
        copy_module(f"course/{name}.py", folder / "helpers")
    door = DOOR.format(name="grade", module="grading")
    (folder / "helpers" / "__main__.py").write_text(door, encoding="utf-8")
    pinned = requirements(["torch", "numpy", "tqdm"]).splitlines()
    packages = " ".join(line.split()[0] for line in pinned)
    (folder / "setup.sh").write_text(SET_UP.format(packages=packages), encoding="utf-8")
    (folder / "run_autograder").write_text(RUN, encoding="utf-8")
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
        for path in sorted(path for path in folder.rglob("*") if path.is_file()):
            file.write(path, path.relative_to(folder))
