"""A pile of submissions, graded row by row: `python -m helpers grade SUBMISSIONS`.

A submission is a folder or a zip file with a student's `helpers`. Only the functions of the table
are taken from it, with what they need of their own file. For each student there is a report to
read, and `results.json` as Gradescope takes it; for all of them one table.
"""

import argparse
import ast
import csv
import io
import json
import os
import re
import subprocess
import sys
import zipfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from tempfile import gettempdir

from tqdm import tqdm

from helpers.course.examine import Result, examine, identity, lost, program_of
from helpers.course.rows import EVERYWHERE, ROWS
from helpers.course.sheet import MODULES, Sheet, make_sheet
from helpers.course.source import words

SETS = 3  # of numbers, with parameters of their own
LARGEST = 1_000_000  # bytes of a file
GRADED = [row for row in ROWS if row.checks]
HEAD = ["student", *(row.label for row in GRADED), "by machine"]
COLUMNS = HEAD + [f"{row.label} to be read" for row in ROWS if row.to_read]


def run(args: argparse.Namespace) -> None:
    """Writes the table and the reports; prints the points of each student."""
    if not args.csv.parent.is_dir() or args.csv.is_dir() or not args.csv.suffix:
        raise ValueError(f"--csv must be NAME.csv in an existing folder, not {args.csv}")
    submissions = find_submissions(args.submissions)
    folder, table = args.csv.parent / args.csv.stem, Table(args.csv)
    sheet, user = make_sheet(args.seed, SETS), nobody()
    if user is None and hasattr(os, "geteuid") and os.geteuid() == 0:
        why = f"the user nobody cannot run {sys.executable} with torch"
        print(f"students' code runs as root, as {why}: grade in a container", file=sys.stderr)
    for path in tqdm(submissions, "submissions", ncols=70, leave=False):
        name = name_of(path)
        results = grade(sheet, path, folder / name, user)
        table.put(name, results)
        points = sum(result.points for result in results)
        tqdm.write(f"{name}: {points}", file=sys.stdout)
    print(f"table: {args.csv}, reports: {folder}{os.sep}", file=sys.stderr)


def find_submissions(path: Path) -> list[Path]:
    """Raises ValueError if there is none."""
    if not path.exists():
        raise ValueError(f"{path} does not exist")
    path = path.absolute()
    if path.is_file() and not zipfile.is_zipfile(path):
        raise ValueError(f"{path} is no folder and no zip file")
    if path.is_file() or any(places(path, f"{name}.py", deep=False) for name in MODULES):
        paths = [path]
    else:
        paths = [child for child in sorted(path.iterdir())
                 if not child.name.startswith((".", "__"))]  # fmt: skip
        for child in paths:
            if not child.is_dir() and child.suffix.lower() != ".zip":
                print(f"left out: {child} is no folder and no zip file", file=sys.stderr)
        paths = [child for child in paths if child.is_dir() or child.suffix.lower() == ".zip"]
    if not paths:
        raise ValueError(f"{path} holds no submission: a folder or a zip file for each student")
    names = [name_of(path) for path in paths]
    if twice := {name for name in names if names.count(name) > 1}:
        raise ValueError(f"more than one submission is called {sorted(twice)[0]}")
    return paths


def name_of(path: Path) -> str:
    """The student's: that of the folder, or of the zip file."""
    return path.name if path.is_dir() else path.stem


def places(folder: Path, name: str, deep: bool = True) -> list[Path]:
    """Where a module of a submission may be: in its `helpers`, or flat; or some folders below; or
    in a `helpers (1)`, as a browser calls what it saves a second time.
    """
    above = ["", "*/", "*/*/", "*/*/*/"] if deep else [""]
    patterns = [f"helpers/{name}", name]
    for own in ("helpers", "helpers ([0-9]*)"):
        patterns += [f"{start}{own}/{name}" for start in above]
    paths = [path for pattern in patterns for path in folder.glob(pattern)]
    inside = folder.resolve()  # no link leads to the files of others
    return [path for path in paths if path.is_file() and not path.is_symlink()
            and path.resolve().is_relative_to(inside)]  # fmt: skip


def read_submission(path: Path) -> dict[str, str]:
    """The source of the modules that it has, by their names; what cannot be read is left out."""
    files: dict[str, str] = {}
    zips = [*path.rglob("*.zip")] if path.is_dir() else []
    if len(zips) == 1 and not any(places(path, f"{module}.py") for module in MODULES):
        return read_submission(zips[0])
    for module in MODULES:
        with suppress(Exception):  # whatever a damaged file may raise
            content = read_module(path, f"{module}.py")
            if content is not None:
                files[module] = content.decode("utf-8-sig")
    return files


def read_module(path: Path, name: str) -> bytes | None:
    if path.is_dir():
        paths = [place for place in places(path, name) if place.stat().st_size <= LARGEST]
        return paths[0].read_bytes() if paths else None
    with zipfile.ZipFile(path) as archive:
        kinds = zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED  # others may unpack to more than they say
        entries = [entry for entry in archive.infolist() if "__MACOSX" not in entry.filename
                   and entry.filename.replace("\\", "/").split("/")[-1] == name
                   and entry.file_size <= LARGEST and entry.compress_type in kinds]  # fmt: skip
        entries.sort(key=lambda entry: order(entry.filename))
        if not entries:
            return None
        with archive.open(entries[0]) as file:
            return file.read(LARGEST + 1)


def order(name: str) -> int:
    """What is taken first of a zip file: from `helpers`, flat, from its copy, from elsewhere."""
    folder = name.replace("\\", "/").rpartition("/")[0].rpartition("/")[2]
    kinds = "helpers", "", r"helpers \(\d+\)", ".*"
    return next(i for i, kind in enumerate(kinds) if re.fullmatch(kind, folder))


def grade(sheet: Sheet, path: Path, folder: Path, user: str | None) -> list[Result]:
    """The results of one submission. They are written before the first row, and after each."""
    files = read_submission(path)
    if not files:
        print(f"{path}: no file of helpers can be read", file=sys.stderr)
    results = {row.label: lost(row, "not tried yet") for row in GRADED}
    folder.mkdir(parents=True, exist_ok=True)
    report(folder, results, [])
    for of_row in examine(sheet, files, user=user):
        results[of_row[0].row.label] = of_row
        report(folder, results, [])
    report(folder, results, suspicious(sheet, files))
    return [result for of_row in results.values() for result in of_row]


def suspicious(sheet: Sheet, files: dict[str, str]) -> list[str]:
    """Names in a student's functions that do what was to be written by hand, or more than that."""
    notes = []
    for row in ROWS:
        with suppress(Exception):  # it was told for the row already
            program = program_of(sheet, files, row)
            own = set()
            for module, source in program.items():
                given = sheet.files[module]
                own |= words(ast.parse(source)) - words(ast.parse(given))
            names = sorted(own & {*row.forbidden, *EVERYWHERE})
            if names:
                notes.append(f"{row.label} uses {', '.join(names)}")
    return notes


def report(folder: Path, results: dict[str, list[Result]], notes: Sequence[str]) -> None:
    """Writes `report.md` and `results.json`."""
    whole = [result for of_row in results.values() for result in of_row]
    points, total = (sum(numbers) for numbers in zip(
        *((result.points, result.check.points) for result in whole), strict=True))  # fmt: skip
    to_read = [row for row in ROWS if row.to_read]
    lines = [f"# {folder.name}: {points} of {total} points by machine", ""]
    for label, of_row in results.items():
        row = of_row[0].row
        lines += [f"## {label} {row.title}: {sum(r.points for r in of_row)} of {row.points}", ""]
        lines += [*(f"- {result.line()}" for result in of_row), ""]
    lines += ["## To be read", ""]
    for row in to_read:
        lines += [f"{row.label} {row.title}, up to {row.to_read} points:", ""]
        lines += [*(f"- {sentence}" for sentence in row.rubric), ""]
    if notes:
        lines += ["## To be looked at", "", *(f"- {note}" for note in notes), ""]
    replace(folder / "report.md", "\n".join(lines))
    tests = [
        {
            "name": f"{result.row.label} {result.check.name}",
            "number": f"{result.row.label[1:]}.{1 + results[result.row.label].index(result)}",
            "score": result.points,
            "max_score": result.check.points,
            "output": result.line(),
            "status": "failed" if result.came else "passed",
            "visibility": "visible",
        }
        for result in whole
    ]
    if notes:
        tests.append({"name": "names to be looked at", "score": 0, "max_score": 0,
                      "output": "\n".join(notes), "visibility": "hidden"})  # fmt: skip
    read = ", ".join(f"{row.label} ({row.to_read})" for row in to_read)
    content = {"score": points, "output": f"To be read by the teacher: {read}.", "tests": tests}
    replace(folder / "results.json", json.dumps(content, indent=1) + "\n")


def replace(path: Path, text: str) -> None:
    """Writes a file so that it is whole at any time."""
    part = path.with_name(path.name + ".part")
    part.write_text(text, encoding="utf-8", errors="backslashreplace")
    part.replace(path)


class Table:
    """The points of all students, a line for each. In a table that is there already the lines of
    others stay, what the teacher has written into the columns of what is to be read, and how a
    spreadsheet has parted the columns.
    """

    def __init__(self, path: Path):
        """Raises ValueError if the file is there and is another one."""
        self.path, self.lines = path, {}
        self.mark, self.delimiter = "", ","
        if path.exists():
            self.read()

    def read(self) -> None:
        try:
            text = self.path.read_bytes().decode("utf-8")
        except UnicodeDecodeError:  # the names in it would be others
            reason = "is not UTF-8 text: save it as such, or choose another --csv"
            raise ValueError(f"{self.path} {reason}") from None
        self.mark = "\ufeff" * text.startswith("\ufeff")  # of a spreadsheet, for UTF-8
        text = io.StringIO(text.removeprefix(self.mark), newline="")
        for self.delimiter in ",;\t":
            text.seek(0)
            with suppress(csv.Error):
                head, *lines = list(csv.reader(text, delimiter=self.delimiter)) or [[]]
                if head[: len(COLUMNS)] == COLUMNS and not any(head[len(COLUMNS) :]):
                    break
        else:
            reason = "is there already, and no table of grades: choose another --csv"
            raise ValueError(f"{self.path} {reason}")
        for line in filter(any, lines):
            if line[0] in self.lines:
                raise ValueError(f"{self.path} has two lines of {line[0]}")
            self.lines[line[0]] = line

    def put(self, name: str, results: Sequence[Result]) -> None:
        """Sets what the machine gives a student, and writes the file."""
        safe = "'" + name if name.startswith(("=", "+", "-", "@")) else name  # no formula
        points = [sum(r.points for r in results if r.row is row) for row in GRADED]
        by_hand = self.lines.get(safe, [""] * len(COLUMNS))[len(HEAD) :]
        self.lines[safe] = [safe, *map(str, points), str(sum(points)), *by_hand]
        text = io.StringIO()
        writer = csv.writer(text, delimiter=self.delimiter, lineterminator="\n")
        writer.writerows([COLUMNS, *self.lines.values()])
        replace(self.path, self.mark + text.getvalue())


def nobody() -> str | None:
    """A user without rights, if this process may become one and that user can run Python."""
    if not hasattr(os, "geteuid") or os.geteuid() != 0:
        return None
    with suppress(OSError, LookupError, ValueError, subprocess.SubprocessError):
        trial = [sys.executable, "-c", "import torch"]
        options = {"cwd": gettempdir(), "timeout": 60, **identity("nobody")}
        if subprocess.run(trial, capture_output=True, **options).returncode == 0:
            return "nobody"
    return None
