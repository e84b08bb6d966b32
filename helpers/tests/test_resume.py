"""A run that is ended and resumed ends like one that was left alone: parameters, history, lines.

The runs are ended with SIGKILL, which no process can catch, or by Ctrl-C. Each lives in a process
of its own, started from a server that has imported everything already, which saves seconds.
"""

import json
import multiprocessing
import os
import random
import shutil
import signal
from contextlib import suppress
from time import perf_counter

import pytest
import torch

from helpers.runs import checkpoint
from helpers.runs.loop import Run, fit
from helpers.tasks.task import Corpus
from helpers.tests.tiny import TINY, fresh_model, silent, tiny_data

pytestmark = pytest.mark.slow

server = multiprocessing.get_context("forkserver")
server.set_forkserver_preload(["helpers.tests.test_resume", "torch._dynamo"])  # slow imports

SMALL = TINY.having(vocab_size=9, max_length=4, lr=0.02)
KINDS = {  # together they have each kind of state that a run has to take up again
    "cosine, own words": SMALL.having(epochs=5, teacher_forcing_end=0.5),
    "dropout": SMALL.having(epochs=3, cell="lstm", attention="location", dropout=0.2),
    "plateau, early stop": SMALL.having(
        epochs=20, schedule="plateau", plateau_patience=0, patience=2
    ),
}


def run(folder, settings, fatal=None):
    """One life of a run. If `fatal` is given, it ends just before that operation on a file."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # not ignored, as in the background
    if fatal is not None:
        die_before(fatal)
    data, lines = tiny_data(settings), []
    saved = checkpoint.latest(folder)
    fit(Run(fresh_model(data, settings), data, settings, saved), folder, report=lines.append)
    (folder / "lines.json").write_text(json.dumps(lines))


def die_before(fatal):
    """Counts what is done to files; the operation number `fatal` is not carried out any more, and
    a file that was about to be forced to the disk is left half written.
    """
    count = 0

    def wrap(operation, halve=False):
        def counted(*args, **options):
            nonlocal count
            count += 1
            if count == fatal:
                if halve and os.fstat(args[0]).st_size > 4096:
                    os.ftruncate(args[0], os.fstat(args[0]).st_size // 2)
                os.kill(os.getpid(), signal.SIGKILL)
            return operation(*args, **options)

        return counted

    os.fsync = wrap(os.fsync, halve=True)
    os.replace, os.unlink, os.mkdir = wrap(os.replace), wrap(os.unlink), wrap(os.mkdir)
    os.rmdir = wrap(os.rmdir)


def live(folder, settings, fatal=None, seconds=None, end=signal.SIGKILL):
    """Starts or resumes a run; ends it after some `seconds`. Returns whether it was ended."""
    process = server.Process(target=run, args=(folder, settings, fatal))
    process.start()
    process.join(seconds)
    if process.is_alive():
        with suppress(ProcessLookupError):  # it may have ended just now
            os.kill(process.pid, end)
        process.join()
    assert process.exitcode in (0, -end if end == signal.SIGKILL else 1)  # of an exception
    return process.exitcode != 0


def contents(folder):
    """All that a run leaves: what was reported, and what is in each of its files."""
    content = {"lines": json.loads((folder / "lines.json").read_text())}
    for path in sorted(folder.rglob("*.pt*")):
        content[str(path.relative_to(folder))] = torch.load(path, weights_only=True)
    return content


def assert_same(one, other, where=""):
    """Equal to the last bit: dictionaries, lists and tensors, all the way down."""
    assert type(one) is type(other), where
    if isinstance(one, dict):
        assert list(one) == list(other), where
        for name in one:
            assert_same(one[name], other[name], f"{where}/{name}")
    elif isinstance(one, list | tuple):
        assert len(one) == len(other), where
        for i, (some, others) in enumerate(zip(one, other, strict=True)):
            assert_same(some, others, f"{where}/{i}")
    elif isinstance(one, torch.Tensor):
        assert one.dtype == other.dtype and one.equal(other), where
    else:
        assert one == other, where


@pytest.fixture(scope="module", params=KINDS)
def uninterrupted(request, tmp_path_factory):
    folder, settings = tmp_path_factory.mktemp("whole"), KINDS[request.param]
    first = server.Process(target=os.getpid)  # the server has to start and import, once
    first.start()
    first.join()
    started = perf_counter()
    assert not live(folder, settings)
    content, seconds = contents(folder), perf_counter() - started
    epochs = len(content["last.pt"]["history"])
    kept = [f"epoch-{epoch:03}.pt" for epoch in range(epochs - 2, epochs + 1)]
    assert set(content) == {"lines", "best.pt", "last.pt", *kept}
    return settings, content, seconds


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGINT], ids=["kill -9", "Ctrl-C"])
def test_ended_at_random_moments(uninterrupted, tmp_path, end):
    settings, expected, seconds = uninterrupted
    rng, resumed = random.Random(1), set()  # which run was ended, after how many epochs
    for number in range(50):
        folder = tmp_path / str(number)
        folder.mkdir()
        for _ in range(3):
            live(folder, settings, seconds=rng.uniform(0.1, 1.1) * seconds, end=end)
            if checkpoint.is_unfinished(folder) and checkpoint.latest(folder).history:
                resumed.add((number, len(checkpoint.latest(folder).history)))
        assert not live(folder, settings)
        assert_same(contents(folder), expected)
        if len(resumed) >= 3:
            break
    assert len(resumed) >= 3


def test_killed_before_every_operation_on_a_file(uninterrupted, tmp_path):
    """The first life ends before the first operation, the second before its second, and so on: in
    the middle of a save, between two files, and while the files of the finished run move up.
    """
    settings, expected, _ = uninterrupted
    kills = 0
    while live(tmp_path, settings, fatal=kills + 1):
        kills += 1
    assert kills >= 10
    assert_same(contents(tmp_path), expected)


def test_killed_while_the_files_move_up(uninterrupted, tmp_path):
    settings, expected, _ = uninterrupted
    whole = tmp_path / "whole"
    assert not live(whole, settings)
    (whole / "lines.json").unlink()
    for operation in range(1, len(list(whole.iterdir())) + 2):
        folder = tmp_path / str(operation)
        shutil.copytree(whole, folder / checkpoint.UNFINISHED)
        (folder / checkpoint.UNFINISHED / ".lock").unlink()
        assert live(folder, settings, fatal=operation)
        if list(folder.glob("unfinished/*.pt")):
            assert checkpoint.is_unfinished(folder), "so that no new run sweeps them away"
        assert not live(folder, settings)
        assert_same(contents(folder), expected)


def test_other_settings_or_data_are_refused(tmp_path):
    data, settings = tiny_data(), TINY.having(epochs=1)
    fit(Run(fresh_model(data), data, settings), tmp_path, report=silent)
    before, saved = (tmp_path / "last.pt").read_bytes(), checkpoint.latest(tmp_path)
    other = settings.having(lr=0.01, epochs=2)
    with pytest.raises(ValueError, match=r"has lr 0.002, not 0.01, epochs 1, not 2$"):
        fit(Run(fresh_model(data), data, other, saved), tmp_path, report=silent)
    changed = data._replace(sentences=data.sentences._replace(test=[("another",)]))
    with pytest.raises(ValueError, match="other data"):
        fit(Run(fresh_model(data), changed, settings, saved), tmp_path, report=silent)
    assert (tmp_path / "last.pt").read_bytes() == before


def test_mixed_precision_goes_on_with_its_scale(tmp_path):
    """Float32, half precision and a scale that changes on the way."""
    settings = SMALL.having(precision="float32", amp=True)
    data = tiny_data(settings)

    def overflow(grad):  # now and then, whereupon the step is left out
        return grad * torch.inf if torch.rand(()) < 0.1 else grad

    def new_run(saved=None):
        model = fresh_model(data, settings)
        model.decoder.output.bias.register_hook(overflow)
        return Run(model, data, settings, saved)

    def stop(history):
        if len(history) == 2:
            raise KeyboardInterrupt

    fit(new_run(), tmp_path / "whole", report=silent)
    broken = new_run()
    broken.observers.append(stop)
    with pytest.raises(KeyboardInterrupt):
        fit(broken, tmp_path / "parts", report=silent)
    fit(new_run(checkpoint.latest(tmp_path / "parts")), tmp_path / "parts", report=silent)
    whole, parts = (
        torch.load(tmp_path / name / "last.pt", weights_only=True) for name in ("whole", "parts")
    )
    assert whole["learner"]["scaler"]["scale"] != 65536
    assert_same(parts, whole)


def test_a_run_goes_on_with_its_corpus(tmp_path):
    data, settings = tiny_data(), TINY.having(epochs=1)
    run = Run(fresh_model(data), data, settings)
    run.corpus = Corpus("a/text")
    fit(run, tmp_path, report=silent)
    saved = checkpoint.latest(tmp_path)
    assert saved.corpus == Run(fresh_model(data), data, settings, saved).corpus == run.corpus
