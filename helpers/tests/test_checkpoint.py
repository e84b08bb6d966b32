"""Files of a run: whole or not there, read without running code, kept to a stated number."""

import pytest
import torch

from helpers.runs import checkpoint
from helpers.runs.checkpoint import Checkpoint
from helpers.runs.loop import Run, fit
from helpers.runs.step import Learner
from helpers.tests.tiny import TINY, fresh_model, silent, tiny_data
from helpers.training import mean_loss


@pytest.fixture(scope="module")
def data():
    return tiny_data()


def make_checkpoint(data, epochs=0, settings=TINY):
    model, history = fresh_model(data, settings), [{"epoch": i + 1} for i in range(epochs)]
    digest, learner = checkpoint.digest(data), Learner(model, settings, steps=10).state_dict()
    return Checkpoint(model, data.vocab, data.trg_vocab, settings, history, None, digest, learner)


def names(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.*"))


def test_a_loaded_model_gives_the_same_answers(data, tmp_path):
    path = tmp_path / "best.pt"
    saved = make_checkpoint(data)
    checkpoint.save(saved, path)
    loaded = checkpoint.load(path)
    assert loaded.history == [] and loaded.corpus is None
    assert loaded.digest == checkpoint.digest(data)
    assert loaded.settings == TINY and loaded.vocab.words == data.vocab.words
    assert mean_loss(loaded.model, data.pairs.valid) == mean_loss(saved.model, data.pairs.valid)


@pytest.mark.parametrize(
    "changes",
    [
        {"attention": "none"},
        {"cell": "lstm", "attention": "luong-dot", "layers": 2, "dropout": 0.1},
        {"attention": "location"},
        {"model": "transformer", "optimizer": "sgd"},
        {"precision": "float32", "schedule": "plateau"},
    ],
    ids=str,
)
def test_every_kind_of_model_comes_back(data, tmp_path, changes):
    settings = TINY.having(**changes)
    saved = make_checkpoint(data, settings=settings)
    checkpoint.save(saved, tmp_path / "best.pt")
    torch.set_default_dtype(torch.float64)  # whatever it is, the file's precision counts
    loaded = checkpoint.load(tmp_path / "best.pt")
    assert loaded.settings == settings and not loaded.model.training
    both = saved.model.state_dict(), loaded.model.state_dict()
    assert list(both[0]) == list(both[1])
    for name, values in both[0].items():
        assert values.dtype == both[1][name].dtype and values.equal(both[1][name])


def test_the_digest_is_of_sentences_and_references(data):
    other = data._replace(sentences=data.sentences._replace(test=[("another",)]))
    another = data._replace(references=data.references._replace(train=[("another",)]))
    same = tiny_data()._replace(pairs=None, vocab=None)
    assert checkpoint.digest(same) == checkpoint.digest(data)
    assert len({checkpoint.digest(one) for one in (data, other, another)}) == 3


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"PK\x03\x04 broken"])
def test_foreign_files_are_refused(tmp_path, content):
    path = tmp_path / "best.pt"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="damaged"):
        checkpoint.load(path)


def test_a_folder_is_no_checkpoint(tmp_path):
    with pytest.raises(IsADirectoryError, match=r"is a folder: name a file in it, such as best.pt"):
        checkpoint.load(tmp_path)


def test_truncated_and_foreign_checkpoints_are_refused(data, tmp_path):
    path = tmp_path / "best.pt"
    checkpoint.save(make_checkpoint(data), path)
    whole = path.read_bytes()
    for size in range(0, len(whole), len(whole) // 50):
        path.write_bytes(whole[:size])
        with pytest.raises(ValueError, match="damaged"):
            checkpoint.load(path)
    path.write_bytes(whole)
    content = torch.load(path, weights_only=True)
    for other in ("another", "seq2seq 3"):
        torch.save(content | {"format": other}, path)
        with pytest.raises(ValueError, match="damaged, or no checkpoint of this version"):
            checkpoint.load(path)
    torch.save(content | {"settings": content["settings"] | {"wings": 2}}, path)
    with pytest.raises(ValueError, match="damaged"):
        checkpoint.load(path)
    del content["history"]
    torch.save(content, path)
    with pytest.raises(ValueError, match="damaged"):
        checkpoint.load(path)
    torch.save({"parameters": torch.zeros(2)}, path)
    with pytest.raises(ValueError, match="no checkpoint"):
        checkpoint.load(path)
    with pytest.raises(FileNotFoundError, match="makes one"):
        checkpoint.load(tmp_path / "none.pt")


def test_a_checkpoint_cannot_run_code(tmp_path):
    class Trap:
        def __reduce__(self):
            return (tmp_path.joinpath("sprung").touch, ())

    path = tmp_path / "best.pt"
    torch.save({"format": checkpoint.FORMAT, "parameters": Trap()}, path)
    with pytest.raises(ValueError, match="damaged"):
        checkpoint.load(path)
    assert not (tmp_path / "sprung").exists()


def test_a_file_is_replaced_only_when_the_new_one_is_on_the_disk(data, tmp_path, monkeypatch):
    path = tmp_path / "best.pt"
    path.write_bytes(b"precious")
    forced = []
    monkeypatch.setattr("os.fsync", lambda file: forced.append(path.read_bytes()))
    with open(path, "rb") as old:
        checkpoint.save(make_checkpoint(data), path)
        assert old.read() == b"precious", "the new file must take the name, not the place"
    assert forced[0] == b"precious" and forced[-1] == path.read_bytes() != b"precious"


def test_a_full_disk_leaves_the_old_file_and_no_other(data, tmp_path, monkeypatch):
    path = tmp_path / "best.pt"
    path.write_bytes(b"precious")

    def fail(file):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", fail)
    with pytest.raises(OSError, match="No space left on device.*best.pt"):
        checkpoint.save(make_checkpoint(data), path)
    assert path.read_bytes() == b"precious" and names(tmp_path) == ["best.pt"]


def test_a_run_keeps_best_and_last_and_the_last_epochs(data, tmp_path):
    checkpoint.start(tmp_path, make_checkpoint(data, 0))
    assert names(tmp_path) == ["unfinished/last.pt"]
    for epoch in range(1, 6):
        checkpoint.keep(tmp_path, make_checkpoint(data, epoch), best=epoch == 2)
    assert checkpoint.KEPT == 3
    kept = ["best.pt", "epoch-003.pt", "epoch-004.pt", "epoch-005.pt", "last.pt"]
    assert names(tmp_path) == [f"unfinished/{name}" for name in kept]
    assert checkpoint.is_unfinished(tmp_path)
    checkpoint.finish(tmp_path, 5)
    assert names(tmp_path) == kept and not checkpoint.is_unfinished(tmp_path)
    ends = {name: len(checkpoint.load(tmp_path / name).history) for name in kept}
    assert list(ends.values()) == [2, 3, 4, 5, 5]


def test_a_new_run_replaces_an_older_one_only_when_it_is_over(data, tmp_path):
    kept = ("epoch-good.pt", "notes.txt")
    old = [tmp_path / name for name in ("best.pt", "epoch-009.pt", "last.pt", *kept)]
    for path in old:
        path.write_bytes(b"old")
    (tmp_path / "unfinished").mkdir()
    (tmp_path / "unfinished" / "epoch-002.pt").write_bytes(b"of a run that was broken off")
    checkpoint.start(tmp_path, make_checkpoint(data, 0))
    assert names(tmp_path / "unfinished") == ["last.pt"]
    checkpoint.keep(tmp_path, make_checkpoint(data, 1), best=True)
    assert all(path.read_bytes() == b"old" for path in old)
    checkpoint.finish(tmp_path, 1)
    assert names(tmp_path) == ["best.pt", "epoch-001.pt", "epoch-good.pt", "last.pt", "notes.txt"]
    assert len(checkpoint.latest(tmp_path).history) == 1


def test_a_run_that_is_over_takes_nothing_from_what_another_left(data, tmp_path):
    checkpoint.save(make_checkpoint(data, 5), tmp_path / "best.pt", tmp_path / "last.pt")
    before = (tmp_path / "best.pt").read_bytes()
    (tmp_path / "unfinished").mkdir()
    (tmp_path / "unfinished" / "best.pt").write_bytes(b"of another run")
    checkpoint.finish(tmp_path, 5)
    assert (tmp_path / "best.pt").read_bytes() == before
    assert names(tmp_path) == ["best.pt", "last.pt"]


def test_latest_prefers_the_run_that_was_broken_off(data, tmp_path):
    assert checkpoint.latest(tmp_path) is None
    checkpoint.save(make_checkpoint(data, 5), tmp_path / "last.pt")
    assert len(checkpoint.latest(tmp_path).history) == 5
    checkpoint.start(tmp_path, make_checkpoint(data, 0))
    assert checkpoint.latest(tmp_path).history == []
    checkpoint.keep(tmp_path, make_checkpoint(data, 2), best=False)
    assert len(checkpoint.latest(tmp_path).history) == 2


def test_all_that_training_needs_is_in_the_file(data, tmp_path):
    model, settings = fresh_model(data), TINY.having(epochs=1)
    fit(Run(model, data, settings), tmp_path, report=silent)
    content = torch.load(tmp_path / "last.pt", weights_only=True)
    learner = content.pop("learner")
    names = {"format", "settings", "vocabs", "history", "corpus", "digest", "parameters", "longest"}
    assert set(content) == names and content["settings"] == settings.flat()
    assert set(learner) == {
        "optimizer",
        "schedule",
        "scaler",
        "taught",
        "random",
        "random cuda",
    }
    steps = -(-len(data.pairs.train) // TINY.run.batch_size)
    assert [state["step"] for state in learner["optimizer"]["state"].values()] == [steps] * len(
        list(model.parameters())
    )
    assert learner["random"].equal(torch.get_rng_state())


def test_a_damaged_run_says_what_to_do(tmp_path):
    path = tmp_path / "unfinished" / "last.pt"
    path.parent.mkdir()
    path.write_bytes(b"half of a ch")
    with pytest.raises(ValueError, match="last.pt is damaged.*; remove it to begin anew$"):
        checkpoint.latest(tmp_path)
    for epoch in (8, 9, 10):
        (path.parent / f"epoch-{epoch:03}.pt").touch()
    with pytest.raises(ValueError, match="begin anew, or put epoch-010.pt in its place$"):
        checkpoint.latest(tmp_path)
