"""All checks of one student's files. Each row is tried in a process of its own, in a folder of its
own; the comparison with what is right happens here, where no line of a student's code is run.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import zipfile
from collections import defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from multiprocessing import Pipe
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import get_ident
from time import monotonic
from typing import NamedTuple

import torch

from helpers.course.checks import Numbers
from helpers.course.rows import ROWS, Check, Row
from helpers.course.runner import MISSING
from helpers.course.sheet import Sheet
from helpers.course.source import graft

ROW_SECONDS, ALL_SECONDS = 20, 300
START_SECONDS = 100  # to import torch, which counts for no row, and to fork
ROOT = Path(__file__).parents[2]
LARGEST = 2**20  # bytes of what one check leaves behind; the right outcomes have some thousand
NEEDED = ("__init__.py", "checks.py", "rows.py", "runner.py")  # of this folder
FORKS = hasattr(os, "fork") and sys.platform != "darwin"  # where libraries break in a fork


class Result(NamedTuple):
    """How a check ended: the points that were given, and what came if it was not right."""

    row: Row
    check: Check
    points: int
    came: str | None

    def line(self) -> str:
        """For the student, in one line."""
        head = f"{self.row.label:3} {self.points}/{self.check.points}  {self.check.name}: "
        if self.came is None:
            return head + self.check.expected
        if self.came == MISSING:
            return f"{head}{MISSING} (section {self.row.section})"
        return f"{head}expected {self.check.expected}; {self.came} (section {self.row.section})"


def examine(
    sheet: Sheet,
    files: dict[str, str],
    labels: Sequence[str] = (),
    user: str | None = None,
    loud: bool = False,
) -> Iterator[list[Result]]:
    """The results of each row, or of those with the `labels`, in order, each as soon as it is
    known. `files` holds a student's modules by name. Their code runs as `user`, if there is one;
    what it prints is shown if `loud`.
    """
    rows = [row for row in ROWS if row.checks and (not labels or row.label in labels)]
    deadline = monotonic() + ALL_SECONDS
    nurseries = defaultdict(lambda: Nursery(user, loud))  # one for each thread

    def of(row: Row) -> list[Result]:
        return try_row(sheet, files, row, deadline, nurseries[get_ident()])

    try:
        with ThreadPoolExecutor(max_workers=os.cpu_count() or 1) as pool:
            yield from pool.map(of, rows)
    finally:
        for nursery in nurseries.values():
            nursery.close()


def try_row(
    sheet: Sheet, files: dict[str, str], row: Row, deadline: float, nursery: "Nursery"
) -> list[Result]:
    seconds = min(ROW_SECONDS, deadline - monotonic())
    if seconds <= 0:
        return lost(row, f"not tried: {ALL_SECONDS} seconds are over")
    try:
        program = program_of(sheet, files, row)
    except Exception as error:  # whatever a file that is no Python may raise
        return lost(row, printable(str(error)) or f"too deeply nested ({type(error).__name__})")
    with folder() as place:
        try:
            prepare(place, program, sheet.given[row.label], nursery.user)
        except OSError as error:
            return lost(row, f"no place to try it: {error.strerror}")
        end = nursery.run(place, row, seconds)
        outcomes = [read(place / f"outcome{i}.pt") for i in range(len(row.checks))]
    expected = zip(row.checks, outcomes, sheet.expected[row.label], strict=True)
    return [judge(row, check, sheet.given[row.label], came, right, end)
            for check, came, right in expected]  # fmt: skip


@contextmanager
def folder() -> Iterator[Path]:
    """A folder that is removed at the end, however deep the folders in it are nested."""
    place = TemporaryDirectory(ignore_cleanup_errors=True)
    try:
        yield Path(place.name)
    finally:
        try:
            place.cleanup()
        except RecursionError:
            with suppress(OSError):
                subprocess.run(["rm", "-rf", place.name], stderr=subprocess.DEVNULL, check=False)


def printable(text: str) -> str:
    """In one line, without what would move the cursor, and not too long."""
    return "".join(char for char in " ".join(text.split()) if char.isprintable())[:200]


def lost(row: Row, why: str) -> list[Result]:
    return [Result(row, check, 0, why) for check in row.checks]


def program_of(sheet: Sheet, files: dict[str, str], row: Row) -> dict[str, str]:
    """The modules with the student's functions of one row. Raises ValueError where there is none,
    and SyntaxError.
    """
    program, names = dict(sheet.files), {}
    for function in row.functions:
        module, _, name = function.partition(".")
        names.setdefault(module, []).append(name)
    for module, functions in names.items():
        if module not in files:
            raise ValueError(f"there is no file {module}.py")
        try:
            program[module] = graft(sheet.files[module], files[module], functions)
        except ValueError as error:
            raise ValueError(f"{module}.py: {error}") from None
        except SyntaxError as error:
            raise SyntaxError(f"{module}.py, line {error.lineno}: {error.msg}") from None
    return program


def prepare(place: Path, program: dict[str, str], given: list[Numbers], user: str | None) -> None:
    """Fills the folder in which a row is tried."""
    course = place / "helpers" / "course"
    course.mkdir(parents=True)
    (place / "helpers" / "__init__.py").touch()
    for name in NEEDED:
        shutil.copyfile(Path(__file__).with_name(name), course / name)
    for name, source in program.items():
        (place / "helpers" / f"{name}.py").write_text(source, encoding="utf-8")
    torch.save(given, place / "given.pt")
    if user:
        place.chmod(0o755)
        for path in (place, *place.rglob("*")):
            shutil.chown(path, user)


class Nursery:
    """A process that imports torch, which takes longer than most rows, and forks a child for each
    row of one submission. No line of a student's code is run in it; where that runs as `user`, the
    nursery does not, and is out of its reach. Where nothing is forked, each row has a process.
    """

    def __init__(self, user: str | None, loud: bool):
        self.user, self.loud = user, loud
        self.process: subprocess.Popen | None = None

    def run(self, place: Path, row: Row, seconds: float) -> str | None:
        """Lets the row's process run to its end, or not; returns why it did not come that far."""
        hidden = [] if self.loud else [str(ROOT), "/proc"]
        job = {"folder": str(place), "label": row.label, "hidden": hidden, "user": None}
        if FORKS:
            job["user"] = self.user and list(numbers_of(self.user))
        child = status = None
        try:
            if FORKS:
                child = self.fork(place, json.dumps(job))
                status = self.answer(monotonic() + seconds)
            else:
                status = self.start(place, subprocess.DEVNULL, [json.dumps(job)]).wait(seconds)
        except subprocess.TimeoutExpired:
            return f"stopped after {seconds:.0f} seconds"
        except (EOFError, OSError):  # the child has killed the nursery
            status = self.close()
        finally:
            if status is None or not FORKS:
                self.close()
            if child:
                kill(child)
        return f"its process ended with status {status}" if status else None

    def fork(self, place: Path, job: str) -> int:
        """Has a child forked, by another nursery if this one is dead; returns its number."""
        try:
            return self.send(place, job)
        except (EOFError, OSError):
            self.close()
            return self.send(place, job)

    def send(self, place: Path, job: str) -> int:
        deadline = monotonic() + START_SECONDS
        if self.process is None:
            self.line, stdin = Pipe()
            with stdin:
                self.start(place, stdin, [])
            self.receive(deadline)  # it has imported torch
        self.line.send_bytes(job.encode())
        return self.answer(deadline)

    def start(self, place: Path, stdin: object, job: list[str]) -> subprocess.Popen:
        # not the copy, which the user might have changed
        runner = Path(__file__).with_name("runner.py") if FORKS else "helpers/course/runner.py"
        self.process = subprocess.Popen(
            [sys.executable, "-s", "-B", "-u", "-P", runner, *job],
            cwd=place,
            env={"PATH": os.defpath, "HOME": str(place), "OMP_NUM_THREADS": "1"} | windows(),
            stdin=stdin,
            stdout=sys.stderr if self.loud else subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            **({} if FORKS else identity(self.user)),
        )
        return self.process

    def answer(self, deadline: float) -> int:
        """The number of a child, then its status. Raises TimeoutExpired, EOFError or OSError."""
        return int(self.receive(deadline))

    def receive(self, deadline: float) -> bytes:
        if not self.line.poll(deadline - monotonic()):
            raise subprocess.TimeoutExpired("runner.py", 0)
        return self.line.recv_bytes()

    def close(self) -> int | None:
        """Ends the process, if there is one, and returns its status."""
        process, self.process = self.process, None
        if process is None:
            return None
        kill(process.pid)  # with a child that has no session yet
        process.kill()
        return process.wait()


def kill(group: int) -> None:
    with suppress(ProcessLookupError, PermissionError, AttributeError):
        os.killpg(group, signal.SIGKILL)


def numbers_of(user: str) -> tuple[int, int]:
    """Of a user and their group."""
    import pwd  # not on Windows

    return pwd.getpwnam(user)[2:4]


def identity(user: str | None) -> dict:
    """Options of a process that is to run as a user, with no other rights than theirs."""
    if user is None:
        return {}
    number, group = numbers_of(user)
    return {"user": number, "group": group, "extra_groups": []}


def windows() -> dict[str, str]:
    return {name: os.environ[name] for name in ("SYSTEMROOT", "TEMP") if name in os.environ}


def read(path: Path) -> object:
    """What a process has left behind: tensors, text, or nothing that could be read, such as a pipe,
    which would keep us waiting, or tensors that are larger than their file.
    """
    try:
        if path.is_symlink() or not path.is_file() or path.stat().st_size > LARGEST:
            return None
        with zipfile.ZipFile(path) as archive:
            if sum(entry.file_size for entry in archive.infolist()) > LARGEST:
                return None
        content = torch.load(path, weights_only=True, map_location="cpu")
        outcomes = content if isinstance(content, list) else []
        parts = [part for outcome in outcomes if isinstance(outcome, dict)
                 for part in outcome.values()]  # fmt: skip
        return None if any(part.numel() > LARGEST for part in parts) else content
    except Exception:
        return None


def judge(
    row: Row,
    check: Check,
    given: list[Numbers],
    came: object,
    expected: list[Numbers],
    end: str | None,
) -> Result:
    """Compares the outcomes of all sets of numbers; points are given if all are right."""
    if not isinstance(came, list) or len(came) != len(given):
        return Result(row, check, 0, end or "nothing came")
    for numbers, outcome, right in zip(given, came, expected, strict=True):
        if isinstance(outcome, str):
            wrong = MISSING if outcome == MISSING else f"came {printable(outcome)}"
            return Result(row, check, 0, wrong)
        try:
            wrong = check.judge(numbers, outcome, right)
        except Exception as error:
            wrong = f"numbers of another kind ({type(error).__name__})"
        if wrong:
            return Result(row, check, 0, f"came {wrong}")
    return Result(row, check, check.points, None)
