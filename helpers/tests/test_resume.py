"""A run that is ended and resumed ends like one that was left alone: weights, history, lines.

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
from dataclasses import replace

import pytest
import torch

from helpers import checkpoint
from helpers.tests.tiny import TINY, fresh_model, silent, tiny_task
from helpers.training import train

server = multiprocessing.get_context("forkserver")
server.set_forkserver_preload(["helpers.tests.test_resume", "torch._dynamo"])  # slow imports

SMALL = replace(TINY, vocab_size=9, max_length=4, lr=0.02)
CONFIGS = {  # together they have each kind of state that a run has to take up again
    "cosine, own words": replace(SMALL, epochs=5, teacher_forcing_end=0.5),
    "dropout": replace(SMALL, epochs=3, model="location", dropout=0.2),
    "plateau, early stop": replace(
        SMALL, epochs=20, schedule="plateau", plateau_patience=0, patience=2
    ),
}


def run(folder, config, fatal=None):
    """One life of a run. If `fatal` is given, it ends just before that operation on a file."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # not ignored, as in the background
    if fatal is not None:
        die_before(fatal)
    task, lines = tiny_task(config), []
    saved = checkpoint.latest(folder)
    train(fresh_model(task, config), task, config, folder, saved, report=lines.append)
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
    shutil.rmtree = wrap(shutil.rmtree)


def live(folder, config, fatal=None, seconds=None, how=signal.SIGKILL):
    """Starts or resumes a run; ends it after some `seconds`. Returns whether it was ended."""
    process = server.Process(target=run, args=(folder, config, fatal))
    process.start()
    process.join(seconds)
    if process.is_alive():
        with suppress(ProcessLookupError):  # it may have ended just now
            os.kill(process.pid, how)
        process.join()
    assert process.exitcode in (0, -how if how == signal.SIGKILL else 1)  # of an exception
    return process.exitcode != 0


def contents(folder):
    """All that a run leaves: what was reported, and what is in each of its files."""
    found = {"lines": json.loads((folder / "lines.json").read_text())}
    for path in sorted(folder.rglob("*.pt*")):
        found[str(path.relative_to(folder))] = torch.load(path, weights_only=True)
    return found


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


@pytest.fixture(scope="module", params=CONFIGS)
def uninterrupted(request, tmp_path_factory):
    folder, config = tmp_path_factory.mktemp("whole"), CONFIGS[request.param]
    assert not live(folder, config)
    found = contents(folder)
    epochs = len(found["last.pt"]["history"])
    kept = [f"epoch-{epoch:03}.pt" for epoch in range(epochs - 2, epochs + 1)]
    assert set(found) == {"lines", "best.pt", "last.pt", *kept}
    return config, found


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT], ids=["kill -9", "Ctrl-C"])
def test_ended_at_random_moments(uninterrupted, tmp_path, how):
    config, expected = uninterrupted
    rng, kills, rounds, seen = random.Random(1), 0, 0, set()
    while kills < 10 or not seen:
        rounds += 1
        folder = tmp_path / str(rounds)
        folder.mkdir()
        for _ in range(6):
            patience = 1 if seen else 1 + rounds // 5  # a slow machine needs more time
            seconds = rng.uniform(0.05, 0.4) * patience
            kills += live(folder, config, seconds=seconds, how=how)
            if checkpoint.is_unfinished(folder) and checkpoint.latest(folder).history:
                seen.add(len(checkpoint.latest(folder).history))  # it goes on from the middle
        assert not live(folder, config)
        assert_same(contents(folder), expected)
        assert rounds < 50, f"{kills} were ended in time, with {seen} epochs done"


def test_killed_before_every_operation_on_a_file(uninterrupted, tmp_path):
    """The first life ends before the first operation, the second before its second, and so on: in
    the middle of a save, between two files, and while the files of the finished run move up.
    """
    config, expected = uninterrupted
    kills = 0
    while live(tmp_path, config, fatal=kills + 1):
        kills += 1
    assert kills >= 10
    assert_same(contents(tmp_path), expected)


def test_killed_while_the_files_move_up(uninterrupted, tmp_path):
    config, expected = uninterrupted
    whole = tmp_path / "whole"
    assert not live(whole, config)
    (whole / "lines.json").unlink()
    for operation in range(1, len(list(whole.iterdir())) + 2):
        folder = tmp_path / str(operation)
        shutil.copytree(whole, folder / checkpoint.UNFINISHED)
        assert live(folder, config, fatal=operation)
        if list(folder.glob("unfinished/*.pt")):
            assert checkpoint.is_unfinished(folder), "so that no new run sweeps them away"
        assert not live(folder, config)
        assert_same(contents(folder), expected)


def test_other_settings_or_data_are_refused(tmp_path):
    task = tiny_task()
    config = replace(TINY, epochs=1)
    train(fresh_model(task), task, config, tmp_path, report=silent)
    before, saved = (tmp_path / "last.pt").read_bytes(), checkpoint.latest(tmp_path)
    other = replace(config, lr=0.01, epochs=2)
    with pytest.raises(ValueError, match=r"has epochs 1, not 2, lr 0.002, not 0.01$"):
        train(fresh_model(task), task, other, tmp_path, saved, report=silent)
    changed = task._replace(sentences=task.sentences._replace(test=[("another",)]))
    with pytest.raises(ValueError, match="other data"):
        train(fresh_model(task), changed, config, tmp_path, saved, report=silent)
    assert (tmp_path / "last.pt").read_bytes() == before


def test_mixed_precision_goes_on_with_its_scale(tmp_path):
    """Float32, half precision and a scale that changes on the way."""
    config = replace(SMALL, amp=True)
    task = tiny_task(config)

    def model():
        net = fresh_model(task, config).float()
        net.decoder.output.bias.register_hook(overflow)
        return net

    def overflow(grad):  # now and then, whereupon the step is left out
        return grad * torch.inf if torch.rand(()) < 0.1 else grad

    def stop(epoch):
        if epoch == 2:
            raise KeyboardInterrupt

    train(model(), task, config, tmp_path / "whole", report=silent)
    with pytest.raises(KeyboardInterrupt):
        train(model(), task, config, tmp_path / "parts", report=silent, on_epoch=stop)
    saved = checkpoint.latest(tmp_path / "parts")
    train(model(), task, config, tmp_path / "parts", saved, report=silent)
    whole, parts = (
        torch.load(tmp_path / name / "last.pt", weights_only=True) for name in ("whole", "parts")
    )
    assert whole["learner"]["scaler"]["scale"] != 65536
    assert_same(parts, whole)
