"""The processes in which rows are tried: a nursery for each thread, and its children."""

import os
import signal
import tempfile
import time
from pathlib import Path

import pytest
import torch

from helpers.course import examine as examination
from helpers.course.examine import Nursery, examine
from helpers.course.grading import nobody
from helpers.course.rows import BY_LABEL
from helpers.course.sheet import make_sheet
from helpers.tests.test_course_faults import FIND, NAMES, RIGHT, examined, losses, rewritten

pytestmark = pytest.mark.skipif(not examination.FORKS, reason="no process is forked here")
LABELS = ["A6", "A11", "A12"]


@pytest.fixture(scope="module")
def sheet():
    return make_sheet(seed=3, sets=1)


@pytest.fixture
def started(monkeypatch, tmp_path):
    """The processes that are started, here in one thread; none is left, and no file."""
    processes, start = [], Nursery.start

    def seen(*args):
        processes.append(start(*args))
        return processes[-1]

    monkeypatch.setattr(Nursery, "start", seen)
    monkeypatch.setattr(os, "cpu_count", lambda: 1)
    monkeypatch.setattr(examination, "ROW_SECONDS", 100)  # whoever else computes here
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    yield processes
    assert all(process.returncode is not None for process in processes)
    assert not [*tmp_path.iterdir()]


def with_bodies(bodies: dict[str, str]) -> dict[str, str]:
    """The right files, with another body of the first function of some rows."""
    files = RIGHT
    for label, body in bodies.items():
        files = rewritten(files, {next(iter(BY_LABEL[label].functions)): body}, FIND)
    return files


def soon(condition) -> bool:
    """Whether it holds within ten seconds."""
    return any(condition() or time.sleep(0.1) for _ in range(100))


def ended(number: int) -> bool:
    """Whether a process has ended, whoever may still have to take note of it."""
    try:
        os.kill(number, 0)
        state = Path("/proc", str(number), "stat")
        return state.exists() and state.read_text().rpartition(")")[2].split()[0] == "Z"
    except (ProcessLookupError, FileNotFoundError):
        return True


def test_a_child_leaves_the_same_bits_as_a_process_of_its_own(sheet, started, monkeypatch):
    left, read = [], examination.read
    monkeypatch.setattr(examination, "read", lambda path: left.append(read(path)) or left[-1])
    for forks, processes in ((True, 1), (False, 4)):
        monkeypatch.setattr(examination, "FORKS", forks)
        assert not any(map(losses, examined(sheet, RIGHT, LABELS).values()))
        assert len(started) == processes
    parts = [part for (outcome,) in left for part in outcome.values()]
    half = len(parts) // 2
    assert half > 7
    assert all(torch.equal(*pair) for pair in zip(parts[:half], parts[half:], strict=True))


def test_a_nursery_that_dies_costs_no_more_than_a_row(sheet, started, monkeypatch, tmp_path):
    """At work in the first row, and after the second."""
    answers, answer = [], Nursery.answer

    def deadly(nursery, deadline):
        answers.append(answer(nursery, deadline))
        if len(answers) == 1:
            assert soon(lambda: [*tmp_path.glob("*/busy")])
            threads = Path("/proc", str(nursery.process.pid), "task")
            assert not threads.exists() or len([*threads.iterdir()]) == 1
        if len(answers) in (1, 3):
            os.kill(nursery.process.pid, signal.SIGKILL)
            os.waitid(os.P_PID, nursery.process.pid, os.WEXITED | os.WNOWAIT)
        return answers[-1]

    monkeypatch.setattr(Nursery, "answer", deadly)
    busy = "Path('busy').touch()\nwhile True:\n    pass"
    came = examined(sheet, with_bodies({"A6": busy}), LABELS)
    assert [losses(came[label]) for label in LABELS] == [NAMES["A6"], [], []]
    assert came["A6"][0].came == "its process ended with status -9"
    assert len(started) == 3 and len(answers) == 5
    assert soon(lambda: ended(answers[0])), "the child that was at work"


def test_a_child_is_alone(sheet, started):
    """It has nothing to write to but its output, and a session and a copy of `helpers` that are
    its own; its death is its own, too.
    """
    bodies = {
        "A4": """\
written = []
for number in range(256):
    try:
        os.write(number, bytes([0, 0, 0, 1]) + b"0")
        written.append(number)
    except OSError:
        pass
raise ValueError(written)""",
        "A6": "os.abort()",
        "A11": """\
here = os.getcwd()
others = [name for name, module in sys.modules.items() if name.startswith("helpers")
          and not module.__spec__.origin.startswith(here)]
places = os.environ["HOME"] == sys.path[0] == here
ours = [path for path in sys.path if path.endswith("course")]
raise ValueError(os.getsid(0) == os.getpid(), places, others + ours, sys.stdin.read())""",
    }
    came = examined(sheet, with_bodies(bodies), ["A4", "A11", "A6", "A12"])
    assert came["A4"][0].came == "came ValueError: [1, 2]"
    assert came["A6"][0].came == "its process ended with status -6"
    assert came["A11"][0].came == "came ValueError: (True, True, [], '')"
    assert losses(came["A12"]) == [] and len(started) == 1


REACHES = {
    "limits": "import resource\nresource.prlimit(os.getppid(), resource.RLIMIT_FSIZE, (0, 0))",
    "priority": "os.setpriority(os.PRIO_PROCESS, os.getppid(), 19)",
    "scheduler": "os.sched_setscheduler(os.getppid(), os.SCHED_IDLE, os.sched_param(0))",
}


@pytest.mark.parametrize("what", REACHES)
def test_a_child_cannot_reach_for_what_the_next_one_inherits(sheet, started, what):
    came = examined(sheet, with_bodies({"A4": REACHES[what]}), ["A4", "A6"])
    assert "refused" in came["A4"][0].came or "AttributeError" in came["A4"][0].came
    assert losses(came["A6"]) == [] and len(started) == 1


def test_a_nursery_that_dies_before_it_has_a_child(sheet, started, monkeypatch):
    """The row is given to another one."""
    killed, send = [], Nursery.answer

    def deadly(nursery, deadline):
        if not killed:
            killed.append(nursery.process.pid)
            os.kill(killed[0], signal.SIGKILL)
            nursery.line.close()
        return send(nursery, deadline)

    monkeypatch.setattr(Nursery, "answer", deadly)
    came = examined(sheet, RIGHT, ["A6", "A11"])
    assert not any(map(losses, came.values())) and len(started) == 2


def test_what_was_stopped_is_not_left_running(sheet, started, monkeypatch, tmp_path):
    numbers, answer = [], Nursery.answer

    def noted(nursery, deadline):
        numbers.append(answer(nursery, deadline))
        if len(numbers) == 1:  # from now on the time is short
            assert soon(lambda: [*tmp_path.glob("*/busy")])
        return numbers[-1]

    def answered(nursery, deadline):
        return noted(nursery, deadline if not numbers else time.monotonic())

    monkeypatch.setattr(Nursery, "answer", answered)
    busy = "import time\nPath('busy').touch()\ntime.sleep(1000)"
    came = examined(sheet, with_bodies({"A6": busy}), ["A6"])
    assert came["A6"][0].came == "stopped after 100 seconds" and len(numbers) == 1
    assert soon(lambda: ended(numbers[0]))


def test_a_child_is_another_user_than_the_nursery(sheet, started, monkeypatch):
    if nobody() is None:
        pytest.skip("only root can become a user without rights, if that can run Python")
    monkeypatch.setattr(tempfile, "tempdir", "/tmp")  # where that user can go
    number = examination.numbers_of("nobody")[0]
    body = "raise ValueError(os.getuid(), os.getgroups(), os.access(os.getcwd(), os.W_OK))"
    of_all = examine(sheet, with_bodies({"A6": body}), ["A6"], user="nobody")
    assert next(of_all)[0].came == f"came ValueError: ({number}, [], True)"
    status = Path("/proc", str(started[0].pid), "status").read_text()
    assert "Uid:\t0\t" in status
    assert not [*of_all]


@pytest.mark.parametrize("end", [GeneratorExit, KeyboardInterrupt])
def test_nothing_is_left_of_what_is_broken_off(sheet, started, end):
    examination_of_all = examine(sheet, RIGHT)
    next(examination_of_all)
    with pytest.raises(end):
        examination_of_all.throw(end)
    assert len(started) == 1
