"""The command line as a user meets it: output, messages and exit status of every command."""

import io
import os
import runpy
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import fields
from functools import cache
from unittest import mock

import pytest
import torch

from helpers.commands import COMMANDS, main
from helpers.runs import checkpoint
from helpers.runs.settings import DEFAULTS, KINDS, RunSettings, Settings
from helpers.search.answers import Answer
from helpers.tasks import Translation

BUFFERED = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
NO_ROOM = "[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes"
SMALL = "--per-length 30 --epochs 1 --hidden-size 8 --emb-size 8".split()


def run(*args, stdin=b"", status=0):
    """What a command prints to stdout and stderr; it runs in this process, which saves time."""
    files = [io.TextIOWrapper(io.BytesIO(data)) for data in (stdin, b"", b"")]
    with (
        mock.patch("sys.stdin", files[0]),
        redirect_stdout(files[1]),
        redirect_stderr(files[2]),
    ):
        try:
            result = main([str(arg) for arg in args])
        except SystemExit as stop:  # the way in which argparse ends
            result = stop.code
    for file in files[1:]:
        file.flush()
    out, err = (file.buffer.getvalue().decode() for file in files[1:])
    assert result == status, err
    return out, err


def whole(err):
    """What is said on stderr besides answers that are cut off, as small models' are."""
    lines = err.splitlines(keepends=True)
    return "".join(line for line in lines if "cut off" not in line)


def folders(path):
    return "--checkpoint-dir", path, "--log-dir", path / "runs"


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("checkpoints")
    out, err = run("train", *SMALL, *folders(folder))
    return folder / "best.pt", out, err


def test_train_prints_losses_and_where_the_model_is(trained):
    path, out, err = trained
    epoch, where = out.splitlines()
    assert epoch.startswith("epoch  1   train loss ") and "valid exact match" in epoch
    assert where == f"checkpoint: {path}" and path.is_file()
    assert err.startswith("pairs: ")


def test_evaluate_on_the_test_set_and_on_a_file(trained, tmp_path):
    path, _, _ = trained
    names = ["sentences", "exact match", "exact match 95% low", "exact match 95% high"]
    names += ["token accuracy", "exact match as text"]
    out, _ = run("evaluate", "--checkpoint", path)
    values = dict(line.split(": ") for line in out.splitlines())
    assert list(values) == names
    assert 0 <= float(values["exact match 95% low"]) <= float(values["exact match"]) <= 1
    text = tmp_path / "text.txt"
    text.write_text("One line.\n\nAnother one\n")
    out, _ = run("evaluate", "--checkpoint", path, "--input", text)
    assert out.startswith("sentences: 2\n")


def test_evaluate_compares_with_the_reversed_test_set(trained, monkeypatch):
    path, _, _ = trained
    saved = checkpoint.load(path)
    expected = Settings.of(per_length=30, epochs=1, hidden_size=8, emb_size=8)
    assert saved.settings == expected
    given = []

    def perfect(model, vocab, trg_vocab, sentences, chunk, beam):
        given.extend(sentences)
        return [Answer(list(sentence[::-1])) for sentence in given]

    monkeypatch.setattr("helpers.commands.answering.predict", perfect)
    out, _ = run("evaluate", "--checkpoint", path)
    assert "exact match: 1.000000" in out and "token accuracy: 1.000000" in out
    assert given == expected.task.load(seed=1).sentences.test


def test_reverse_arguments_and_lines(trained):
    path, _, _ = trained
    assert run("reverse", "--checkpoint", path, "the cat", "", "it")[0].count("\n") == 3
    assert run("reverse", "--checkpoint", path, "the", "cat", "sat")[0].count("\n") == 1
    stdin = b"\xef\xbb\xbf" + "the cat\r\n\n日本 語\n".encode()
    out, err = run("reverse", "--checkpoint", path, stdin=stdin)
    assert out.count("\n") == 3 and out.splitlines()[1] == whole(err) == ""
    assert "<" not in out and "\ufeff" not in out


def test_a_long_sentence_is_answered_with_one_warning(trained):
    path, _, _ = trained
    assert whole(run("reverse", "--checkpoint", path, stdin=b"w " * 12)[1]) == ""
    stdin = b"w " * 13 + b"\n" + b"w " * 20 + b"\n"
    out, err = run("reverse", "--checkpoint", path, stdin=stdin)
    assert out.count("\n") == 2
    one, both = whole(err).splitlines()
    assert one.startswith("warning: line 1 has 13 words; the model was trained on up to 12, its")
    assert both.startswith("warning: 2 lines in all have more words than the 12 of the longest")


def test_train_on_a_corpus_and_notice_when_it_has_changed(tmp_path):
    corpus = tmp_path / "corpus.txt"
    corpus.write_text("".join(f"this is line number {i}\n" for i in range(40)) + "x " * 20)
    out, err = run("train", *SMALL[2:], "--corpus", corpus, *folders(tmp_path))
    assert "left out 1 sentence" in err and "checkpoint: " in out
    path = tmp_path / "best.pt"
    assert run("evaluate", "--checkpoint", path)[0].startswith("sentences: ")
    corpus.write_text("".join(f"now line {i} is different\n" for i in range(40)))
    _, err = run("evaluate", "--checkpoint", path, status=2)
    assert "has changed" in err


@pytest.mark.slow
def test_a_run_killed_as_a_process_goes_on_with_resume(tmp_path):
    """`kill -9` after two epochs; `--resume` needs no other flag and prints what was to be said."""
    args = ["train", *SMALL, "--epochs", "4", "--lr", "0.01"]
    whole, _ = run(*args, *folders(tmp_path / "whole"))
    command = [sys.executable, "-m", "helpers", *args, *folders(tmp_path / "parts")]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL, "env": BUFFERED}
    with subprocess.Popen(command, **pipes) as process:
        first_lines = [process.stdout.readline() for _ in range(2)]
        process.kill()
    assert b"".join(first_lines).decode() == "".join(whole.splitlines(True)[:2])
    _, err = run(*args, *folders(tmp_path / "parts"), status=2)
    assert "broken off" in err and "--resume" in err and err.count("\n") == 1
    out, err = run("train", "--resume", *folders(tmp_path / "parts"))
    assert out == whole.replace(str(tmp_path / "whole"), str(tmp_path / "parts"))
    saved = [checkpoint.load(tmp_path / name / "last.pt") for name in ("whole", "parts")]
    for mine, other in zip(*(c.model.parameters() for c in saved), strict=True):
        assert mine.equal(other)


def test_resume_of_a_run_that_is_over_repeats_what_it_said(trained):
    path, out, _ = trained
    before = path.read_bytes()
    again, err = run("train", "--resume", *folders(path.parent))
    assert again == out and "is over already" in err
    assert path.read_bytes() == before


def test_resume_refuses_other_settings_and_names_them(trained):
    path, _, _ = trained
    flags = ["--hidden-size", "9", "--schedule", "plateau"]
    out, err = run("train", "--resume", *flags, *folders(path.parent), status=2)
    assert out == "" and err.count("\n") == 1
    assert "hidden_size 8, not 9, schedule cosine, not plateau" in err


def test_a_run_that_cannot_begin_does_not_bar_the_way(tmp_path):
    (tmp_path / "file").write_text("no folder")
    wrong = ["--checkpoint-dir", tmp_path / "run", "--log-dir", tmp_path / "file" / "logs"]
    _, err = run("train", *SMALL, *wrong, status=2)
    assert err.count("\n") == 2
    assert run("train", *SMALL, *folders(tmp_path / "run"))[0].count("\n") == 2


@pytest.mark.parametrize(
    "error", [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried")]
)
def test_out_of_memory_is_one_line(tmp_path, error):
    with mock.patch("helpers.models.RecurrentSettings.build", side_effect=error):
        _, err = run("train", *SMALL, *folders(tmp_path), status=2)
    assert "out of memory" in err and err.count("\n") == 1


def test_a_checkpoint_of_a_gpu_is_not_continued_on_a_cpu(trained, tmp_path):
    saved = checkpoint.load(trained[0])
    on_gpu = saved.settings.having(device="cuda", precision="float32", amp=True)
    checkpoint.save(saved._replace(settings=on_gpu), tmp_path / "last.pt")
    _, err = run("train", "--resume", "--device", "cpu", *folders(tmp_path), status=2)
    assert "device cuda, not cpu" in err
    assert run("reverse", "--checkpoint", tmp_path / "last.pt", "the cat")[0].count("\n") == 1


def test_resume_without_a_run_begins_one(tmp_path):
    out, err = run("train", *SMALL, "--resume", *folders(tmp_path))
    assert err.startswith("nothing to resume") and out.count("\n") == 2


def test_integers_are_trained_evaluated_and_reversed(tmp_path):
    small = "--task integers --vocab-size 13 --max-length 4 --per-length 60".split()
    small += "--epochs 4 --lr 0.03".split()  # or else it may answer nothing at all
    run("train", *SMALL, *small, *folders(tmp_path))
    path = tmp_path / "best.pt"
    assert run("evaluate", "--checkpoint", path)[0].startswith("sentences: ")
    out, _ = run("reverse", "--checkpoint", path, "3 12 7")
    assert set(out.split()) <= set(map(str, range(3, 13)))
    out, err = run("reverse", "--checkpoint", path, stdin=b"3 4\n3 13\n5 cat\n12\n")
    assert [bool(line) for line in out.splitlines()] == [True, False, False, True]
    one, both = whole(err).splitlines()
    assert one == "warning: line 2 has words that the model does not know (13): it stays empty"
    assert both == "warning: 2 lines in all have words that the model does not know"


SMALL_DATA = {
    "words": [],
    "patterns": "--per-length 20 --max-length 8".split(),
    "translate": "--per-length 20 --max-length 12".split(),
}


SMALL_MODELS = {
    "luong": {"attention": "luong"},
    "lstm": {"cell": "lstm", "attention": "none"},
    "lstm with attention": {"cell": "lstm", "attention": "bahdanau", "layers": 2, "dropout": 0.1},
    "transformer": {"model": "transformer"},
}


@pytest.fixture(scope="module")
def trained_on(tmp_path_factory):
    """Trains a model of some kind on some task, once; returns its checkpoint."""

    @cache
    def train(task, model):
        folder = tmp_path_factory.mktemp(f"{task}-{model.replace(' ', '-')}")
        flags = [f"--{name}={value}" for name, value in SMALL_MODELS[model].items()]
        run("train", *SMALL, *SMALL_DATA[task], "--task", task, *flags, *folders(folder))
        return folder / "best.pt"

    return train


@pytest.mark.parametrize("model", SMALL_MODELS)
@pytest.mark.parametrize("task", ["words", "patterns", "translate"])
def test_every_model_is_trained_on_every_task_and_used(trained_on, task, model):
    path = trained_on(task, model)
    saved = checkpoint.load(path)
    flat = saved.settings.flat()
    assert flat == flat | SMALL_MODELS[model] | {"task": task}
    assert len(saved.vocab) == len(saved.trg_vocab) or task == "translate"
    for beam in ([], ["--beam", "3"]):
        out, _ = run("evaluate", "--checkpoint", path, *beam)
        sizes = [len(part) for part in saved.settings.task.load(seed=1).sentences]
        assert out.startswith(f"sentences: {sizes[-1]}\nexact match: ")
        if task != "patterns":
            command = "reverse" if task == "words" else "translate"
            lines = b"The cat sleeps.\n\nYou see the dog.\n"
            out, err = run(command, "--checkpoint", path, *beam, stdin=lines)
            assert out.count("\n") == 3 and out.splitlines()[1] == whole(err) == ""


@pytest.mark.parametrize(
    "command, task, says",
    [
        ("reverse", "translate", "was trained for translate, not for words"),
        ("reverse", "patterns", "was trained for patterns, not for words"),
        ("translate", "words", "was trained for words, not for translate"),
    ],
)
def test_a_model_of_another_task_is_refused(trained_on, command, task, says):
    path = trained_on(task, "luong")
    out, err = run(command, "--checkpoint", path, "the cat", status=2)
    assert out == "" and says in err and str(path) in err and err.count("\n") == 1


def test_a_translator_warns_of_the_first_words_that_it_does_not_know(trained_on):
    lines = b"You see the dog.\nI see a dinosaur.\nI see a mammoth.\n"
    out, err = run("translate", "--checkpoint", trained_on("translate", "luong"), stdin=lines)
    assert out.count("\n") == 3
    has = "has words that the model does not know (dinosaur): its translation is a guess"
    says = (
        f"warning: line 2 {has}\nwarning: 2 lines in all have words that the model does not know\n"
    )
    assert whole(err) == says
    _, err = run("reverse", "--checkpoint", trained_on("words", "luong"), "a dinosaur")
    assert whole(err) == ""  # it copies them


def test_the_width_of_the_beam_reaches_the_search(trained_on, monkeypatch):
    path, seen = trained_on("translate", "luong"), []

    def spy(model, vocab, trg_vocab, sentences, chunk, beam):
        seen.append((beam, len(vocab), len(trg_vocab)))
        return [Answer(["l'", "homme"]) for _ in sentences]

    monkeypatch.setattr("helpers.commands.answering.predict", spy)
    saved = checkpoint.load(path)
    sizes = len(saved.vocab), len(saved.trg_vocab)
    run("evaluate", "--checkpoint", path, "--beam", "3")
    assert run("translate", "--checkpoint", path, "--beam", "7", "Hi!")[0] == "L'homme\n"
    run("translate", "--checkpoint", path, "Hi!")
    assert seen == [(3, *sizes), (7, *sizes), (1, *sizes)]


def test_a_translator_is_tested_on_a_file(trained_on, tmp_path):
    path, text = trained_on("translate", "luong"), tmp_path / "pairs.tsv"
    text.write_text("Go.\tVa !\tsomebody\n\nRun!\tCours !\n")
    out, _ = run("evaluate", "--checkpoint", path, "--input", text)
    assert out.startswith("sentences: 2\n")
    text.write_text("Go.\tVa !\nGo.\n")
    _, err = run("evaluate", "--checkpoint", path, "--input", text, status=2)
    assert f"{text}: line 2 " in err and err.count("\n") == 1


def test_a_translator_is_trained_on_a_file(tmp_path):
    corpus = tmp_path / "pairs.tsv"
    lines = [f"I see {i} cats.\tJe vois {i} chats.\n" for i in range(40)]
    corpus.write_text("".join(lines) + f"No.\t{'non ' * 13}\n")
    flags = ["--task", "translate", "--corpus", corpus, *folders(tmp_path)]
    words = ["--subwords", "0", "--max-length", "12"]
    _, err = run("train", *SMALL[2:], *words, *flags)
    assert "left out 1 sentence" in err
    path = tmp_path / "best.pt"
    assert run("evaluate", "--checkpoint", path)[0].startswith("sentences: 10\n")
    corpus.write_text("".join(lines).replace("vois", "regarde"))
    assert "has changed" in run("evaluate", "--checkpoint", path, status=2)[1]


@pytest.mark.parametrize(
    "flags, name",
    [
        (["--attention", "luong"], "words-luong"),
        (["--cell", "lstm", "--attention", "none"], "words-lstm-none"),
        (["--task", "patterns"], "patterns"),
    ],
)
def test_each_model_and_task_has_its_own_folder(tmp_path, monkeypatch, flags, name):
    monkeypatch.chdir(tmp_path)
    out, _ = run("train", *SMALL, *flags)
    assert out.splitlines()[-1] == f"checkpoint: checkpoints/{name}/best.pt"
    assert (tmp_path / "checkpoints" / name / "best.pt").is_file()
    assert (tmp_path / "runs" / name).is_dir()


def test_every_setting_is_a_flag_with_its_default():
    out, _ = run("train", "--help")
    shown = " ".join(out.split())
    for group, kinds in KINDS.items():
        assert f"--{group} {{{','.join(kinds)}}} (default: {DEFAULTS[group]})" in shown
    groups = [*(group for kinds in KINDS.values() for group in kinds.values()), RunSettings]
    defaults = {"device": "auto", "precision": "float64, on a GPU float32"}
    defaults["amp"] = "on a GPU; with a corpus where the CPU has bfloat16"
    defaults["layers"] = "recurrent 1, transformer 2"
    for spec in (spec for group in groups for spec in fields(group)):
        assert f"--{spec.name.replace('_', '-')} " in shown
        needs = [
            f", with {k} "
            + (f"{v[0]} or more" if isinstance(v, range) else " or ".join(map(str, v)))
            for k, v in spec.metadata["needs"].items()
        ]
        default = defaults.get(spec.name, spec.metadata["default"])
        recipe = Translation.recipe()
        if spec.name in recipe:
            default = f"{default}; translate with --corpus: {recipe[spec.name]}"
        assert f"{spec.metadata['help']}{''.join(needs)} (default: {default})" in shown


def test_a_flag_says_where_it_means_something():
    out, _ = run("train", "--help")
    shown = " ".join(out.split())
    for says in ("--heads X transformer: attention heads", "--cell {gru,lstm} recurrent: what"):
        assert says in shown
    assert "--unk-rate X words: share of" in shown and "--momentum X sgd: share of" in shown
    assert "--emb-size X size of an embedding" in shown


def test_every_command_has_help():
    assert set(COMMANDS) == {
        "train",
        "evaluate",
        "reverse",
        "translate",
        "benchmark",
        "seeds",
        "handout",
        "check",
        "grade",
    }
    everything, _ = run("--help")
    for name, add_flags in COMMANDS.items():
        out, err = run(name, "--help")
        says = " ".join(add_flags.__doc__.split())
        assert says in " ".join(out.split()) and says in " ".join(everything.split()) and not err


HEAVY = {"torch", "numpy", "pandas", "matplotlib", "seaborn", "sentencepiece"}
WRONG = [
    "fly",
    "train --wings 2",
    "train --epochs many",
    "train --task sums",
    "evaluate --beam 0",
    "reverse --heatmap map.doc",
    "benchmark --device tpu",
    "seeds --seeds x",
    "grade x --seed y",
]
UNDERSTOOD = ["--help", *(f"{name} --help" for name in COMMANDS)]


@pytest.mark.parametrize("line", UNDERSTOOD + WRONG)
def test_what_needs_no_computing_imports_nothing_that_computes(line):
    """Torch takes a second; whoever asks what may be typed, or types it wrong, does not wait."""
    code = "import sys\nfrom helpers.commands import main\ntry:\n    main()\n"
    code += "except SystemExit as stop:\n    print(stop.code, *sys.modules)"
    done = subprocess.run([sys.executable, "-c", code, *line.split()], capture_output=True)
    status, *modules = done.stdout.decode().splitlines()[-1].split()
    assert int(status) == 2 * (line in WRONG) and "helpers.commands.flags" in modules
    assert not HEAVY & {*modules}


def test_a_command_imports_only_what_it_needs(trained):
    code = "import sys\nfrom helpers.commands import main\nmain()\nprint(*sys.modules)"
    command = [sys.executable, "-c", code, "reverse", "--checkpoint", trained[0], "the cat sat"]
    done = subprocess.run(command, capture_output=True, timeout=120)
    modules = {*done.stdout.decode().splitlines()[-1].split()}
    assert "torch" in modules
    assert not modules & {"pandas", "matplotlib", "seaborn", "sacrebleu", "tensorboard"}
    others = "runs.loop", "runs.step", "tasks.translation", "tasks.tokens", "course.checks"
    assert not modules & {f"helpers.{name}" for name in others}


def test_any_length_is_one_short_flag(tmp_path):
    """`--attention location` brings its recipe along; what is said counts all the same."""
    run("train", *SMALL, "--attention", "location", *folders(tmp_path))
    saved = checkpoint.load(tmp_path / "best.pt").settings
    given = {"per_length": 30, "epochs": 1, "hidden_size": 8, "emb_size": 8}
    assert saved == Settings.of(attention="location", **given)
    recipe = saved.task.max_length, saved.task.unk_rate, saved.model.dropout
    assert recipe == (10, 0.9, 0.2)
    out, err = run("reverse", "--checkpoint", tmp_path / "best.pt", stdin=b"w " * 13)
    assert out.count("\n") == 1 and "likely to be wrong" not in err


@pytest.mark.parametrize("precision", ["float64", "float32"])
def test_precision_is_a_setting(tmp_path, precision):
    run("train", *SMALL, "--precision", precision, *folders(tmp_path))
    torch.set_default_dtype(torch.float64)
    saved = checkpoint.load(tmp_path / "best.pt")
    assert saved.settings.run.precision == precision
    assert {str(param.dtype) for param in saved.model.parameters()} == {f"torch.{precision}"}
    out, _ = run("evaluate", "--checkpoint", tmp_path / "best.pt", "--beam", "2")
    assert out.startswith("sentences: ") and torch.get_default_dtype() == saved.settings.run.dtype
    assert run("train", "--resume", *folders(tmp_path))[0].count("\n") == 2


@pytest.mark.parametrize(
    "args, says",
    [
        (["fly"], "invalid choice"),
        ([], "required"),
        (["train", "--wings", "2"], "--wings 2 (see python -m helpers train --help)"),
        (["train", "--epochs", "many"], "invalid int"),
        (["train", "--checkpoint-dir", "{tmp}/text"], "must be a folder, not the file"),
        (["train", "--log-dir", "{tmp}/text"], "must be a folder, not the file"),
        (["train", "--hid", "8"], "unrecognized"),
        (["train", "--max-length", "60", "--per-length", "2"], "3 to 25 words"),
        (["train", "--lr", "nan"], "lr must lie between"),
        (["train", "--schedule", "up"], "invalid choice"),
        (["train", "--device", "tpu"], "invalid choice"),
        (["train", "--amp", "--device", "cpu"], "amp means nothing with precision float64"),
        (["train", "--valid", "x"], "mean nothing without --corpus"),
        (["train", "--precision", "float16"], "invalid choice"),
        (["train", "--task", "integers", "--vocab-size", "3"], "vocab_size must lie between 4"),
        (["train", "--task", "integers", "--corpus", "x"], "the task integers reads no corpus"),
        (["train", "--hidden-size", "0"], "hidden_size must lie between"),
        (["train", "--corpus", "{tmp}/none.txt"], "No such file"),
        (["train", "--corpus", "{tmp}/binary"], "not UTF-8"),
        (["train", "--corpus", "{tmp}/empty"], "too few"),
        (["evaluate", "--checkpoint", "{tmp}/none.pt"], "makes one"),
        (["evaluate", "--checkpoint", "{tmp}/binary"], "damaged"),
        (["reverse", "--checkpoint", "{tmp}"], "is a folder: name a file"),
        (["train", "--model", "lstm"], "invalid choice"),
        (["train", "--cell", "rnn"], "invalid choice"),
        (["train", "--model", "transformer", "--emb-size", "6"], "divisible by heads"),
        (["train", "--heads", "2"], "heads means nothing with model recurrent"),
        (["train", "--model", "transformer", "--cell", "gru"], "cell means nothing with model"),
        (["train", "--attention", "none", "--attn-size", "8"], "nothing with attention none"),
        (["train", "--attention", "location", "--task", "patterns"], "cannot learn patterns"),
        (["train", "--task", "integers", "--unk-rate", "0"], "unk_rate means nothing with task"),
        (["train", "--task", "translate", "--vocab-size", "9"], "nothing with task translate"),
        (["train", "--task", "translate", "--unk-rate", "0.9", "--heads", "7"], "heads means"),
        (["train", "--optimizer", "sgd", "--beta1", "0.5"], "nothing with optimizer sgd"),
        (["train", "--momentum", "0.5"], "momentum means nothing with optimizer adam"),
        (["train", "--plateau-factor", "0.5"], "nothing with schedule cosine"),
        (["train", "--min-delta", "0.1"], "min_delta means nothing with patience 0"),
        (["seeds", "--seeds", "0"], "--seeds must lie between 1 and 1000"),
        (["train", "--task", "translate", "--corpus", "{tmp}/text"], "text: line 1 "),
        (["train", "--task", "patterns", "--corpus", "x"], "the task patterns reads no corpus"),
        (["evaluate", "--beam", "0"], "must be an integer from 1 to 100, not '0'"),
        (["translate", "--beam", "x", "Hi!"], "must be an integer"),
        (["reverse", "--beam", "1\n"], "must be an integer"),
        (["train", "--wings\nof wax"], "unrecognized"),
        (["train", "--corpus", ""], "directory"),
        (["train", "--log-dir", ""], "must not be empty"),
    ],
)
def test_mistakes_end_with_status_2_and_one_line(tmp_path, args, says):
    (tmp_path / "binary").write_bytes(b"\xff\x00\xff")
    (tmp_path / "empty").write_bytes(b"")
    (tmp_path / "text").write_text("no tab\n")
    args = [arg.format(tmp=tmp_path) for arg in args]
    if args[:1] == ["train"]:
        args += folders(tmp_path / "new")
    out, err = run(*args, status=2)
    assert says in err and err.count("\n") == 1 and out == ""
    assert "Traceback" not in err


def test_dropout_in_parts_of_a_batch_is_one_line(tmp_path):
    flags = ["--dropout", "0.1", "--accumulate", "2", *folders(tmp_path)]
    out, err = run("train", *SMALL, *flags, status=2)
    pairs, mistake = err.splitlines()
    assert pairs.startswith("pairs: ") and "dropout needs whole batches" in mistake and out == ""


def test_standard_input_that_is_not_text(trained):
    _, err = run("reverse", "--checkpoint", trained[0], stdin=b"\xff\n", status=2)
    assert "not UTF-8" in err and err.count("\n") == 1


def test_torch_keeps_few_products_of_a_shape(monkeypatch):
    """It would keep so many that training in half precision takes gigabytes more."""
    caches = "ONEDNN_PRIMITIVE_CACHE_CAPACITY", "LRU_CACHE_CAPACITY"
    for name in caches:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(sys, "argv", ["helpers", "--help"])
    with pytest.raises(SystemExit):
        runpy.run_module("helpers", run_name="__main__")
    assert [os.environ.pop(name) for name in caches] == ["32", "32"]


def test_as_a_process(trained):
    command = [sys.executable, "-m", "helpers", "reverse", "--checkpoint", trained[0]]
    done = subprocess.run(command, input="\n日本\n".encode(), capture_output=True, timeout=120)
    assert (
        done.returncode == 0 and whole(done.stderr.decode()) == "" and done.stdout.count(b"\n") == 2
    )


def test_reverse_prefers_the_model_for_any_length(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "checkpoints/words-location"
    folder.mkdir(parents=True)
    assert "no checkpoint at checkpoints/words/best.pt" in run("reverse", "the cat", status=2)[1]
    plain = tmp_path / "checkpoints/words"
    plain.mkdir()
    for one in (folder, plain):
        (one / "best.pt").write_text("no checkpoint")
    _, err = run("reverse", "the cat", status=2)
    assert "checkpoints/words-location/best.pt is damaged" in err


@pytest.mark.parametrize("command", ["train", "evaluate", "reverse", "translate"])
def test_a_gpu_that_is_missing_is_a_mistake(command, trained, tmp_path):
    with mock.patch.object(torch.cuda, "is_available", lambda: False):
        rest = folders(tmp_path / "new") if command == "train" else ["--checkpoint", trained[0]]
        out, err = run(command, "--device", "cuda", *rest, status=2)
    says = "there is no GPU that torch can use: choose another --device\n"
    assert err == f"python -m helpers: {says}" and out == ""
    assert not (tmp_path / "new").exists()
