"""The command line on files of pairs: pieces, own validation and test, BLEU, maps."""

import re
import shutil
from argparse import Namespace

import pytest
import torch

from helpers.commands.train import default_folder
from helpers.runs import checkpoint
from helpers.runs.device import has_half
from helpers.tasks import french
from helpers.tasks.subwords import Subwords
from helpers.tasks.task import Corpus
from helpers.tests.test_cli import folders, run, trained_on, whole  # noqa: F401  (a fixture)

SMALL = "--emb-size 16 --hidden-size 16 --attn-size 16 --subwords 400 --batch-tokens 600".split()


def write_pairs(path, pairs):
    path.write_text("".join(f"{english}\t{text}\n" for english, text in pairs), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder, pairs = tmp_path_factory.mktemp("files"), french.pairs(400, seed=2)
    parts = {"train": pairs[:340], "valid": pairs[340:370], "test": pairs[370:]}
    parts["test"].append((parts["test"][0][0], "Une autre traduction."))
    return {name: write_pairs(folder / name, part) for name, part in parts.items()}


@pytest.fixture(scope="module")
def trained(files, tmp_path_factory):
    folder = tmp_path_factory.mktemp("checkpoints")
    flags = ["--corpus", files["train"], "--valid", files["valid"], "--test", files["test"]]
    out, err = run(
        "train", "--task", "translate", *flags, *SMALL, "--epochs", "2", *folders(folder)
    )
    return folder / "best.pt", out, err, flags


def test_a_corpus_of_pairs_has_a_recipe_of_its_own(trained, files):
    path, out, err, _ = trained
    saved = checkpoint.load(path)
    settings = saved.settings
    assert (settings.model.output, settings.model.dropout) == ("tied", 0.3)
    assert (settings.run.precision, settings.run.label_smoothing) == ("float32", 0.1)
    assert settings.run.amp == has_half("cpu")
    assert settings.model.hidden_size == 16, "what is asked for comes first"
    assert saved.corpus == Corpus(*(str(files[name].resolve()) for name in files))
    assert isinstance(saved.vocab, Subwords) and isinstance(saved.trg_vocab, Subwords)
    assert "340 train, 30 valid, 30 test; vocabulary: 400 and 400 symbols" in err
    assert out.count("   valid BLEU ") == 2
    assert re.search(r"warning: \d+ steps are few for a learning rate that rises for 300", err)
    assert saved.model.decoder.output.words.weight is saved.model.decoder.embedding.weight


def test_it_is_evaluated_with_bleu(trained):
    out, _ = run("evaluate", "--checkpoint", trained[0])
    values = dict(line.split(": ", 1) for line in out.splitlines())
    assert values["sentences"] == "30"
    assert 0 <= float(values["BLEU"]) <= 100 and 0 < float(values["chrF2"]) <= 100
    assert "nrefs:var" in values["BLEU signature"], "a sentence has two references"
    again, _ = run("evaluate", "--checkpoint", trained[0], "--beam", "2")
    assert again.startswith("sentences: 30\n")


def test_two_checkpoints_are_compared(trained, tmp_path):
    path, other = trained[0], tmp_path / "other.pt"
    shutil.copy(path, other)
    out, _ = run("evaluate", "--checkpoint", path, other)
    assert out.count("exact match as text: ") == 2
    assert f"BLEU of {path}: " in out and f"chrF2 of {other}: " in out
    assert out.endswith(", p = 1.0000\n"), "they are the same"


def test_what_cannot_be_compared_is_refused_at_once(trained, tmp_path):
    for other in (trained[0], tmp_path / "none.pt"):
        out, err = run("evaluate", "--checkpoint", trained[0], other, status=2)
        assert out == "" and err.count("\n") == 1


def test_words_and_pieces_are_compared_on_a_file(trained, files, tmp_path):
    flags = ["--task", "translate", "--corpus", files["train"], "--subwords", "0", *SMALL[:6]]
    run("train", *flags, "--epochs", "1", "--batch-size", "30", *folders(tmp_path))
    saved = checkpoint.load(tmp_path / "best.pt")
    assert (saved.settings.run.batch_size, saved.settings.run.batch_tokens) == (30, 0)
    both = trained[0], tmp_path / "best.pt"
    out, _ = run("evaluate", "--checkpoint", *both, "--input", files["test"])
    assert out.count("sentences: 30\n") == 2 and f"BLEU of {both[1]}: " in out


def test_a_change_of_a_reference_is_noticed(trained, files):
    text = files["test"].read_text(encoding="utf-8")
    try:
        files["test"].write_text(text.replace("Une autre", "Encore une"), encoding="utf-8")
        _, err = run("evaluate", "--checkpoint", trained[0], status=2)
    finally:
        files["test"].write_text(text, encoding="utf-8")
    assert "has changed since the training" in err


def test_tests_that_differ_cannot_be_compared(trained, trained_on):  # noqa: F811
    other = trained_on("translate", "luong")
    _, err = run("evaluate", "--checkpoint", trained[0], other, status=2)
    assert "has another test than" in err and err.splitlines()[-1].startswith("python -m helpers")


def test_it_translates_any_line(trained):
    lines = "I see a cat.\n\n👩 7:30 «x»\n".encode()
    out, _ = run("translate", "--checkpoint", trained[0], stdin=lines)
    assert out.count("\n") == 3 and out.splitlines()[1] == ""


def test_a_run_goes_on_to_the_same_end(trained, tmp_path):
    path, out, _, flags = trained
    words = ["train", "--task", "translate", *flags, *SMALL, *folders(tmp_path)]
    run(*words, "--epochs", "2", "--no-amp")
    expected = checkpoint.load(tmp_path / "last.pt").model.state_dict()
    half = checkpoint.load(tmp_path / "epoch-001.pt")
    (tmp_path / "unfinished").mkdir()
    checkpoint.save(half, tmp_path / "unfinished" / "last.pt")
    run(*words, "--epochs", "2", "--no-amp", "--resume")
    resumed = checkpoint.load(tmp_path / "last.pt").model.state_dict()
    assert all(expected[name].equal(resumed[name]) for name in expected)
    assert out.splitlines()[-1] == f"checkpoint: {path}"


@pytest.mark.parametrize("kind", ["png", "pdf", "svg"])
def test_the_map_of_the_first_sentence(trained, tmp_path, kind):
    path = tmp_path / f"map.{kind}"
    out, _ = run("translate", "--checkpoint", trained[0], "--heatmap", path, "I see a cat.", "No.")
    assert out.count("\n") == 2 and path.stat().st_size > 1000


def test_maps_of_words(trained_on, tmp_path):  # noqa: F811
    path = tmp_path / "map.png"
    run("reverse", "--checkpoint", trained_on("words", "luong"), "--heatmap", path, "the cat sat")
    assert path.stat().st_size > 1000


def test_maps_that_cannot_be_drawn(trained, trained_on, tmp_path):  # noqa: F811
    flags = ["--checkpoint", trained[0], "--heatmap"]
    _, err = run("translate", *flags, tmp_path / "map.txt", "No.", status=2)
    assert "must end with .png or .pdf or .svg" in err
    _, err = run("translate", *flags, tmp_path / "map.png", "")
    assert "nothing to draw" in err and not (tmp_path / "map.png").exists()
    _, err = run("translate", *flags, tmp_path / "map.png", "No. " * 200)
    assert "nothing to draw" in err and not (tmp_path / "map.png").exists(), "too long to be read"
    out, _ = run("translate", *flags, tmp_path / "map.png", "", "A cat.")
    assert out.count("\n") == 2 and (tmp_path / "map.png").exists(), "that of the second"
    none = ["--checkpoint", trained_on("words", "lstm"), "--heatmap", tmp_path / "map.png"]
    out, err = run("reverse", *none, "the cat sat", "a dog ran", status=2)
    assert "no attention to draw" in whole(err)
    _, err = run("translate", *flags, tmp_path / "no" / "map.png", "No.", status=2)
    assert "there is no folder" in err


def test_a_corpus_may_still_be_read_in_words(files, tmp_path):
    flags = ["--task", "translate", "--corpus", files["train"], "--subwords", "0", *SMALL[:6]]
    run("train", *flags, "--epochs", "1", *folders(tmp_path))
    saved = checkpoint.load(tmp_path / "best.pt")
    assert not isinstance(saved.vocab, Subwords) and "cat" in saved.vocab.words
    assert torch.get_num_threads() == 1


def test_folders():
    """Of a corpus, the usual model has the plain name, another one that of what differs."""
    with_corpus, names = Namespace(corpus="pairs"), {}
    for flags in ({}, {"dropout": 0.3}, {"output": "linear"}, {"dropout": 0.1}):
        path = default_folder(with_corpus, {"task": "translate"} | flags)
        names[str(flags)] = path.name
    assert list(names.values()) == [
        "translate", "translate", "translate-linear", "translate-dropout-0.1"]  # fmt: skip
    assert default_folder(Namespace(corpus=None), {"output": "tied"}).name == "words-tied"
