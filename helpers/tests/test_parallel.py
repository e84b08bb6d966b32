"""Two processes that share the work learn what one process learns."""

import subprocess
import sys

import pytest
import torch

from helpers.runs import checkpoint
from helpers.runs.device import add_up, rank, world_size
from helpers.tests.test_cli import folders, run
from helpers.tests.tiny import largest_difference

pytestmark = pytest.mark.slow

SETTINGS = """--task integers --vocab-size 8 --max-length 4 --per-length 300 --lr 0.04 --epochs 3
              --hidden-size 16 --emb-size 16 --attn-size 16 --batch-size 21
              --accumulate 3 --teacher-forcing-end 0.5 --device cpu""".split()


@pytest.fixture(scope="module")
def one_and_two(tmp_path_factory):
    """The folders and outputs of the same training by one process and by two."""
    one, two = tmp_path_factory.mktemp("one"), tmp_path_factory.mktemp("two")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    command += ["-m", "helpers", "train", *SETTINGS, *folders(two)]
    lines, _ = run("train", *SETTINGS, *folders(one))
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return one, two, lines, done.stdout


def test_the_parameters_and_losses_are_the_same(one_and_two):
    one, two = (checkpoint.load(folder / "last.pt") for folder in one_and_two[:2])
    assert largest_difference(one.model.parameters(), two.model.parameters()) <= 1e-10
    for mine, other in zip(one.history, two.history, strict=True):
        assert other == pytest.approx(mine, rel=1e-10) and mine["valid exact match"] > 0
    moments = [c.learner["optimizer"]["state"] for c in (one, two)]
    for i, state in moments[0].items():
        torch.testing.assert_close(state["mean"], moments[1][i]["mean"], rtol=0, atol=1e-10)


def test_one_of_them_speaks_and_writes(one_and_two):
    one, two, lines, two_lines = one_and_two
    assert lines.count("\n") == 4
    assert two_lines == lines.replace(str(one), str(two))
    names = [sorted(path.name for path in folder.glob("*.pt")) for folder in (one, two)]
    assert names[0] == names[1] == ["best.pt", *(f"epoch-00{i}.pt" for i in (1, 2, 3)), "last.pt"]
    assert len(list((two / "runs").glob("events.*"))) == 1


def test_the_last_batch_leaves_some_parts_empty(one_and_two):
    """So that the comparison above covers the case: 2 processes with 3 parts each."""
    settings = checkpoint.load(one_and_two[0] / "last.pt").settings
    pairs, run = settings.task.load(settings.run.seed).pairs.train, settings.run
    assert 0 < len(pairs) % run.batch_size < 2 * run.accumulate


def test_a_process_alone_adds_nothing():
    assert (rank(), world_size(), add_up(1.5, 2)) == (0, 1, [1.5, 2])
