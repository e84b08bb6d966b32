"""What may go wrong outside: full disks, folders that cannot be written, two runs at once, signals,
readers that go away. Each ends with one line that says so, and nothing that was there is lost.
"""

import errno
import os
import resource
import subprocess
import sys
from math import inf
from unittest import mock

import pytest
import torch

from helpers.commands.answering import Warnings, check, limit_of_memory
from helpers.models import RecurrentSettings
from helpers.runs import checkpoint
from helpers.tests.test_cli import BUFFERED, SMALL, folders, run, trained, whole  # noqa: F401  (a fixture)

pytestmark = pytest.mark.slow

HOLD = "import sys, pathlib; from helpers.runs import checkpoint\n"
HOLD += "with checkpoint.claim(pathlib.Path(sys.argv[1])): print(flush=True); sys.stdin.read()"


@pytest.fixture
def holder(tmp_path):
    """A process that has claimed the folder."""
    command = [sys.executable, "-c", HOLD, tmp_path]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        process.stdout.readline()
        yield process
        process.kill()


def files(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_two_runs_in_one_folder(holder, tmp_path):
    (tmp_path / "unfinished").mkdir()
    for name in ("best.pt", "unfinished/last.pt"):
        (tmp_path / name).write_text("of the other run")
    before = files(tmp_path)
    for flags in ([], ["--resume"]):
        out, err = run("train", *SMALL, *flags, *folders(tmp_path), status=2)
        assert f"another process is training in {tmp_path}" in err and err.count("\n") == 1
        assert out == "" and files(tmp_path) == before


def test_a_claim_ends_with_its_process(holder, tmp_path):
    with pytest.raises(ValueError, match="another process"), checkpoint.claim(tmp_path):
        pass
    holder.kill()
    holder.wait()
    with checkpoint.claim(tmp_path), checkpoint.claim(tmp_path):  # twice by the same process
        pass


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """The folder and the output of a run."""
    folder = tmp_path_factory.mktemp("whole")
    return folder, run("train", *SMALL, "--epochs", "3", *folders(folder))[0]


@pytest.mark.parametrize("code", ["ENOSPC", "EIO"])
def test_a_disk_that_fills_up_in_the_middle_of_a_run(undisturbed, tmp_path, monkeypatch, code):
    folder, whole = undisturbed
    number, count = getattr(errno, code), 0

    def fill_up(file, fsync=os.fsync):
        nonlocal count
        count += 1
        if count > 9:
            raise OSError(number, os.strerror(number))
        fsync(file)

    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", fill_up)
        out, err = run("train", *SMALL, "--epochs", "3", *folders(tmp_path / "parts"), status=2)
    assert os.strerror(number) in err.splitlines()[-1] and err.count("\n") == 2
    assert out == "".join(whole.splitlines(True)[: out.count("\n")]) and 0 < out.count("\n") < 3
    assert not list((tmp_path / "parts").rglob("*.tmp"))
    out, _ = run("train", "--resume", *folders(tmp_path / "parts"))
    assert out == whole.replace(str(folder), str(tmp_path / "parts"))


def test_a_disk_that_fills_up_with_curves(tmp_path):
    """The checkpoints stay below the largest size of a file, the curves of 60 epochs do not."""
    command = [sys.executable, "-m", "helpers", "train", *SMALL, "--epochs", "60"]
    command += ["--emb-size", "2", "--hidden-size", "2", *map(str, folders(tmp_path))]
    limits = resource.RLIMIT_FSIZE, (200_000, 200_000)
    options = {"capture_output": True, "text": True}
    done = subprocess.run(command, preexec_fn=lambda: resource.setrlimit(*limits), **options)
    assert done.returncode == 2 and "File too large" in done.stderr.splitlines()[-1]
    assert done.stderr.count("\n") == 2 and checkpoint.latest(tmp_path).history


@pytest.mark.parametrize("code", ["EROFS", "EACCES"])
@pytest.mark.parametrize("name, folder", [("mkdir", "new"), ("open", ".")])
def test_a_folder_that_cannot_be_written(tmp_path, monkeypatch, code, name, folder):
    """Neither a new folder in it nor a file. (No permission would keep root, who may run this.)"""
    number, operation, before = getattr(errno, code), getattr(os, name), files(tmp_path)

    def refuse(path, *args, **options):
        if str(path).startswith(str(tmp_path)):
            raise OSError(number, os.strerror(number), str(path))
        return operation(path, *args, **options)

    monkeypatch.setattr(os, name, refuse)
    out, err = run("train", *SMALL, *folders(tmp_path / folder), status=2)
    last = err.splitlines()[-1]
    assert os.strerror(number) in last and str(tmp_path) in last
    assert out == "" and files(tmp_path) == before


def test_a_reader_that_goes_away(trained):  # noqa: F811
    command = [sys.executable, "-m", "helpers", "reverse", "--checkpoint", trained[0]]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    pipes["env"] = BUFFERED
    with subprocess.Popen(command, **pipes) as process:
        process.stdout.close()
        _, err = process.communicate(b"the cat\n" * 5000, timeout=120)
    assert whole(err.decode()) == "" and process.returncode == 0


def test_training_whose_reader_goes_away(tmp_path):
    command = [sys.executable, "-m", "helpers", "train", *SMALL, "--epochs", "30"]
    command += map(str, folders(tmp_path))
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "env": BUFFERED}
    with subprocess.Popen(command, **pipes) as process:
        process.stdout.readline()
        process.stdout.close()
        _, err = process.communicate(timeout=120)
    assert process.returncode == 2 and err.splitlines()[-1].endswith("with --resume goes on")
    assert checkpoint.latest(tmp_path).history


def test_output_that_cannot_be_written(trained):  # noqa: F811
    """A full disk, and no output at all; without somebody to listen to warnings all goes on."""
    command = f"{sys.executable} -m helpers reverse --checkpoint {trained[0]} 'the cat'"
    for end, status, says in (
        (">/dev/full", 2, "No space left on device"),
        (">&-", 2, "no standard output"),
        ("2>&-", 0, ""),
    ):
        options = {"shell": True, "capture_output": True, "text": True, "env": BUFFERED}
        done = subprocess.run(f"{command} {end}", **options)
        assert done.returncode == status and says in done.stderr
        assert whole(done.stderr).count("\n") == (1 if status else 0)
        assert done.stdout.count("\n") == (0 if status else 1)


def test_ctrl_c_is_one_line(tmp_path):
    with mock.patch.object(RecurrentSettings, "build", side_effect=KeyboardInterrupt):
        _, err = run("train", *SMALL, *folders(tmp_path), status=130)
    assert err.splitlines()[-1] == "stopped; the same command with --resume goes on"


def broken_model(monkeypatch, spoil):
    """Makes `train` build a model that is spoilt in the way of `spoil`."""
    build = RecurrentSettings.build

    def build_and_spoil(*args):
        model = build(*args)
        spoil(model)
        return model

    monkeypatch.setattr(RecurrentSettings, "build", build_and_spoil)


def test_a_loss_that_is_no_number_is_one_line(tmp_path, monkeypatch):
    broken_model(monkeypatch, lambda model: model.decoder.output.bias.data.fill_(torch.nan))
    _, err = run("train", *SMALL, *folders(tmp_path), status=2)
    says = "python -m helpers: loss nan in epoch 1, batch 1: try a lower lr"
    assert err.splitlines()[-1] == says and err.count("\n") == 2


@pytest.mark.parametrize("attention, limit", [("bahdanau", 1_000), ("location", 12_345)])
def test_the_longest_line_that_is_answered(trained, attention, limit, monkeypatch):  # noqa: F811
    """Of any length means as much as there is memory for."""
    loaded = checkpoint.load(trained[0])
    settings = loaded.settings.having(attention=attention)
    model = settings.model.build(len(loaded.vocab), len(loaded.trg_vocab))
    loaded = loaded._replace(settings=settings, model=model)
    pages = {"SC_PHYS_PAGES": 12_345, "SC_PAGE_SIZE": 3 * 8 * (8 + 8 + 64)}  # of hidden size 8
    monkeypatch.setattr("os.sysconf", pages.get, raising=False)
    passed = check(loaded, [("word",) * n for n in (limit, limit + 1, 3)], Warnings())
    assert [len(tokens) for tokens in passed] == [limit, 0, 3]


@pytest.mark.parametrize("answer", [-1, ValueError, OSError, AttributeError])
def test_a_machine_that_does_not_say_how_much_memory_it_has(trained, monkeypatch, answer):  # noqa: F811
    def sysconf(name):
        if answer == -1:
            return -1
        raise answer

    monkeypatch.setattr("os.sysconf", sysconf, raising=False)
    assert limit_of_memory(checkpoint.load(trained[0])) == inf


def test_one_gigantic_line(trained, tmp_path):  # noqa: F811
    """It is answered by an empty line, the others as ever; in a corpus it is left out."""
    giant = b"word " * 300_000
    stdin = b"the cat\n" + giant + b"\nthe dog\n"
    out, err = run("reverse", "--checkpoint", trained[0], stdin=stdin)
    assert [bool(line) for line in out.splitlines()] == [True, False, True]
    assert err.startswith("warning: line 2 has 300000 words, more than the 1000 that this model")
    assert whole(err).count("\n") == 1
    corpus = tmp_path / "corpus.txt"
    corpus.write_bytes(giant)
    _, err = run("train", *SMALL[2:], "--corpus", corpus, *folders(tmp_path), status=2)
    assert str(corpus) in err and "too few" in err and err.count("\n") == 1


def test_nul_and_other_bytes_of_no_meaning(trained):  # noqa: F811
    stdin = b"the\x00 \x01cat\r\n\x00\n\xef\xbb\xbfthe\xe2\x80\xa8dog\n"
    out, _ = run("reverse", "--checkpoint", trained[0], stdin=stdin)
    assert out.count("\n") == 3
