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
    try:
        os.kill(number, 0)
    except ProcessLookupError:
        return True
    return False


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
raise ValueError(os.getsid(0) == os.getpid(), places, others, sys.stdin.read())""",
    }
    came = examined(sheet, with_bodies(bodies), ["A4", "A11", "A6", "A12"])
    assert came["A4"][0].came == "came ValueError: [1, 2]"
    assert came["A6"][0].came == "its process ended with status -6"
    assert came["A11"][0].came == "came ValueError: (True, True, [], '')"
    assert losses(came["A12"]) == [] and len(started) == 1


@pytest.mark.parametrize("end", [GeneratorExit, KeyboardInterrupt])
def test_nothing_is_left_of_what_is_broken_off(sheet, started, end):
    examination_of_all = examine(sheet, RIGHT)
    next(examination_of_all)
    with pytest.raises(end):
        examination_of_all.throw(end)
    assert len(started) == 1
