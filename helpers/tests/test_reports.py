"""Kinds of fault that users report of programs like this one, each with inputs of our own.

A pictures, B answers longer than their source, C early stopping, D text in and text out, E files
of somebody else, F what became of a corpus, G one measure, I mistakes that are named, J warnings,
K folders of curves, M Windows. (H, settings that mean nothing, is in `test_fields`; L, what a chart
shows, in `test_plotting`.)
"""

import builtins
import os
import signal
import subprocess
import sys
import time
import unicodedata
import warnings
from pathlib import Path
from unittest import mock

import matplotlib.pyplot as plt
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from helpers.commands.train import default_log_dir
from helpers.data import EOS, SPECIALS, Vocab
from helpers.plotting import draw_attention, plot_attention, plot_attention_growth
from helpers.runs import checkpoint
from helpers.runs.device import is_out_of_memory
from helpers.runs.logs import Log
from helpers.runs.loop import Run, fit, is_over
from helpers.runs.settings import Settings
from helpers.runs.step import Learner
from helpers.search.answers import predict, right_answers
from helpers.tasks import Translation, Words
from helpers.tasks.tokens import detokenize, tokenize
from helpers.tests.test_cli import folders, run, whole
from helpers.tests.test_loop import history_of
from helpers.tests.tiny import TINY, fresh_model, silent, tiny_data

SMALL = "--epochs 1 --hidden-size 8 --emb-size 8".split()


def write(path, lines):
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path


def numbered(path, text, count=60):
    """A corpus of distinct lines."""
    return write(path, [f"{text} number {i}" for i in range(count)])


@pytest.fixture(scope="module")
def data():
    return tiny_data()


# A


FORMULAS = ["$$", "a$b$c", "$\\frac{1}{0}", "x_1^2", "\\$5"]


@pytest.mark.parametrize("draw", ["one", "growth"])
def test_words_are_no_formulas(draw, tmp_path):
    weights, n = torch.eye(len(FORMULAS)), len(FORMULAS)
    if draw == "one":
        fig = plot_attention(weights, FORMULAS, FORMULAS, "the $$ of it", str(tmp_path / "a.png"))
    else:
        fig = plot_attention_growth({"a $$ b": weights, "$": weights}, FORMULAS, FORMULAS, "")
    fig.canvas.draw()  # which would fail for a formula that is none
    first = fig.axes[0]
    labels = [*first.get_xticklabels(), *first.get_yticklabels(), first.title]
    assert [label.get_text() for label in labels[-n - 1 : -1]] == FORMULAS
    assert all(label.get_parse_math() is False for label in labels if label.get_text())
    plt.close("all")


@pytest.mark.parametrize("count", [12, 60, 400])
def test_labels_do_not_overlap(count):
    """Where there is no room for all of them, those that are left stand at their words."""
    words = [f"word{i}" for i in range(count)]
    fig = plot_attention(torch.eye(count), words, words, "")
    fig.canvas.draw()
    ax = fig.axes[0]
    for axis, end in ((ax.yaxis, "y1"), (ax.xaxis, "x1")):
        labels = axis.get_ticklabels()
        assert len(labels) == count or count > 12
        assert all(label.get_text() == f"word{place - 0.5:.0f}" for label, place
                   in zip(labels, axis.get_ticklocs(), strict=True))  # fmt: skip
        ends = [getattr(label.get_window_extent(), end) for label in labels]
        steps = [abs(b - a) for a, b in zip(ends, ends[1:], strict=False)]
        assert min(steps) >= 0.9 * labels[0].get_fontsize() * fig.dpi / 72
    plt.close("all")


def test_many_cells_have_no_lines_between_them():
    for count, lines in ((12, True), (400, False)):
        fig, ax = plt.subplots()
        draw_attention(ax, torch.eye(count), ["w"] * count, ["w"] * count)
        assert bool(ax.collections[0].get_linewidth()[0]) == lines
        plt.close(fig)


def run_with_curves(data, folder):
    lines = []
    fit(Run(fresh_model(data), data, TINY), folder / "run", folder / "log", lines.append)
    return lines


@pytest.mark.parametrize(
    "error", [ValueError("no font\nat all"), OSError(2, "no font"), KeyError()]
)
def test_a_picture_that_cannot_be_drawn_is_one_line(data, tmp_path, monkeypatch, caplog, error):
    monkeypatch.setattr("helpers.runs.logs.draw", mock.Mock(side_effect=error))
    assert len(run_with_curves(data, tmp_path)) == 3
    (said,) = caplog.messages
    assert said.startswith("warning: no picture of the attention") and "\n" not in said
    assert len(checkpoint.load(tmp_path / "run" / "last.pt").history) == 3
    curves = EventAccumulator(str(tmp_path / "log")).Reload()
    assert len(curves.Scalars("valid/loss")) == 3


def test_curves_that_cannot_be_written_end_the_run(data, tmp_path, monkeypatch):
    add = "torch.utils.tensorboard.SummaryWriter.add_figure"
    monkeypatch.setattr(add, mock.Mock(side_effect=OSError(28, "full")))
    with pytest.raises(OSError):
        run_with_curves(data, tmp_path)


def test_characters_that_no_font_has_are_no_flood_of_warnings(tmp_path):
    log = Log(tmp_path)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        log.picture(torch.eye(3), ["日本", "語", "\U00012000"], ["語", "日"])
    log.close()
    assert not caught
    assert EventAccumulator(str(tmp_path)).Reload().Tags()["images"] == ["attention"]


@pytest.mark.slow
def test_a_broken_back_end_ends_no_run(tmp_path):
    command = [sys.executable, "-m", "helpers", "train", *SMALL, "--corpus"]
    command += [numbered(tmp_path / "text", "$$ a$b"), *map(str, folders(tmp_path))]
    env = os.environ | {"MPLBACKEND": "nonsense"}
    done = subprocess.run(command, env=env, capture_output=True, text=True)
    assert done.returncode == 0 and (tmp_path / "best.pt").exists()
    assert done.stderr.count("no picture") == 1 and "Traceback" not in done.stderr


# B


@pytest.mark.slow
def test_an_answer_may_be_as_long_as_the_longest_target(tmp_path):
    """Also of a source of one word; in greedy and beam search, validation and evaluation."""
    lines = [f"w{i}\tUn deux trois quatre cinq six sept" for i in range(60)]
    corpus = write(tmp_path / "pairs.tsv", lines)
    flags = ["--task", "translate", "--epochs", "4", "--hidden-size", "16", "--lr", "0.02"]
    flags += ["--subwords", "0", "--dropout", "0", "--batch-size", "4", "--warmup", "0"]
    out, _ = run("train", *flags, "--corpus", corpus, *folders(tmp_path))
    assert "100.00%" in out.splitlines()[-2]
    path = tmp_path / "best.pt"
    assert checkpoint.load(path).model.longest == 8
    for beam in ("1", "3"):
        text, err = run("translate", "--checkpoint", path, "--beam", beam, "w1")
        assert text == "Un deux trois quatre cinq six sept\n" and "cut off" not in err
        assert "exact match: 1.000000" in run("evaluate", "--checkpoint", path, "--beam", beam)[0]


@pytest.mark.parametrize("beam", [1, 3])
def test_an_answer_that_is_cut_off_is_said_to_be(data, tmp_path, beam):
    model = fresh_model(data)
    model.decoder.output.bias.data[EOS] = -100.0
    learner = Learner(model, TINY, 9).state_dict()
    rest = (data.vocab, data.trg_vocab, TINY, [], None, "", learner)
    model.longest = 9
    checkpoint.save(checkpoint.Checkpoint(model, *rest), tmp_path / "best.pt")
    answers = list(predict(model, data.vocab, data.trg_vocab, [("3",), ()], beam=beam))
    assert [(len(answer.words), answer.ended) for answer in answers] == [(9, False), (0, True)]
    flags = "--checkpoint", tmp_path / "best.pt", "--beam", beam
    _, err = run("reverse", *flags, stdin=b"3 4\n\n5 4 3 6 7\n")
    one, both = err.splitlines()
    assert one == "warning: line 1 has an answer without an end: it is cut off after 9 words"
    assert both == "warning: 2 lines in all have an answer that is cut off"


# C


@pytest.mark.parametrize(
    "scores, losses, patience, over",
    [
        ([0, 0, 0, 0], [3, 2, 1, 1], 1, False),
        ([0, 0, 0.1, 0.1], [4, 3, 2, 2.5], 1, True),
        ([0.2, 0.2, 0.2], [3, 2, 1], 1, False),
        ([0.2, 0.2, 0.2], [1, 2, 3], 2, True),
        ([0.2, 0.1, 0.2], [3, 2, 1], 2, False),
        ([1, 1, 1], [3, 2, 1], 2, True),
    ],
)
def test_what_a_plateau_is(scores, losses, patience, over):
    run = TINY.having(epochs=9, patience=patience).run
    assert is_over(history_of(*scores, losses=losses), run) == over


def test_a_tie_does_not_count_where_a_difference_is_asked_for():
    run = TINY.having(epochs=9, patience=2, min_delta=0.01).run
    assert is_over(history_of(0.2, 0.2, 0.2, losses=[3, 2, 1]), run)


@pytest.mark.parametrize("patience, says", [(1, "for 1 epoch"), (2, "for 2 epochs")])
def test_one_epoch_is_one(data, monkeypatch, patience, says):
    monkeypatch.setattr(Run, "measure", lambda run: {"valid loss": 1.0, "valid exact match": 0.5})
    lines = []
    settings = TINY.having(epochs=9, patience=patience)
    fit(Run(fresh_model(data), data, settings), report=lines.append)
    assert lines[-1] == f"stopped: the exact match has not risen {says}"


# D


FRENCH = """Il est 7:30.
Le train part à 14h30.
Elle mesure 1,75 m, et lui 1.80 m.
Il a dit "oui" et "non".
"Je viens", dit-il.
Il crie : « Au feu ! »
J'habite à Paris, avec Marie et M. Dupont.
L'Équipe a gagné 3-2 !
Mon adresse est jean.dupont@exemple.fr.
Va voir https://www.exemple.fr/page, s'il te plaît.
C'est le 27/11/2026.
Ça coûte 5€, ou 50 % de moins.
Il fait 20°C.
Peut-être (ou pas).
Qu'est-ce que c'est ?
Attends...
Quoi ?! Non !!
Il roule à 130 km/h.
12, rue de la Paix, 75002 Paris.
Aujourd'hui, jusqu'à l'été.
– Bonjour !
SNCF et RATP sont en grève.
Les U.S.A. sont loin.
L'heure, c'est l'heure ; n'oublie pas.
Il y a 1 000 'mots' [environ].
Il fait -5, ou +5 %, ou 6 °C.
Le n° 6 est ouvert 9h–18h.
La version v1.2.3-beta.
exemple.com/page ou exemple.de, ou moi@localhost.
http://x.fr/a est là.
L'« État », d'"elle".
En 44 av. J.-C., aux U.S.A aussi.
1️⃣ 👍🏽 🇫🇷 oui.
हिन्दी अच्छी है
İstanbul est belle."""


@pytest.mark.parametrize("text", FRENCH.splitlines())
@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_a_text_comes_back(text, form):
    assert detokenize(tokenize(unicodedata.normalize(form, text))) == text


@pytest.mark.parametrize(
    "text, tokens",
    [
        ("हिन्दी", ["हिन्दी"]),
        ("sm\u00adall in\ufeffner \u200b", ["small", "inner"]),
        ("\u200d \u0627\u06cc\u200c\u0646", ["\u0627\u06cc\u200c\u0646"]),
        ("👨\u200d👩\u200d👧 ok", ["👨\u200d👩\u200d👧", "ok"]),
        ("a\x00b", ["ab"]),
        ("il est 7:30, pas 3,5", ["il", "est", "7:30", ",", "pas", "3,5"]),
        ("SNCF", ["SNCF"]),
        ("À Paris", ["à", "Paris"]),
    ],
)
def test_marks_belong_to_their_letters_and_nothing_is_invisible(text, tokens):
    assert list(tokenize(text)) == tokens


def test_the_english_side_is_in_lower_case():
    assert Translation().tokenize("Do I see the French cat?") == tuple(
        "do i see the french cat ?".split()
    )


@pytest.mark.slow
def test_evaluation_compares_texts_too(tmp_path):
    """The words may all be right, and the text is not that of the file: for translations from
    files that is what counts.
    """
    lines = [f"w{i}\tle chat\n" for i in range(40)]
    corpus = tmp_path / "pairs.tsv"
    corpus.write_text("".join(lines))
    flags = ["--task", "translate", "--epochs", "6", "--hidden-size", "8", "--lr", "0.03"]
    flags += ["--subwords", "0", "--dropout", "0", "--batch-size", "2", "--warmup", "0"]
    run("train", *flags, "--corpus", corpus, *folders(tmp_path))
    other = write(
        tmp_path / "test.tsv", ["w1\tLe chat", "w2\tle chat", "w3\tLe  chat", "w4\tLe chien"]
    )
    out, _ = run("evaluate", "--checkpoint", tmp_path / "best.pt", "--input", other)
    values = dict(line.split(": ") for line in out.splitlines())
    assert (values["exact match"], values["exact match as text"]) == ("0.500000", "0.500000")
    assert values["token accuracy"] == "0.875000"
    out, _ = run("evaluate", "--checkpoint", tmp_path / "best.pt")
    assert "token accuracy: 1.000000" in out, "all words are right"
    assert "exact match: 0.000000" in out and "as text: 0.000000" in out, "no capital in the file"


# E


@pytest.mark.parametrize(
    "name", ["best.pt", "last.pt", "epoch-001.pt", "epoch-1234.pt", "unfinished/thesis.txt",
             "unfinished.old/mine.pt", "unfinished.new/best.pt", ".lock", "unfinished",
             "unfinished/best.pt.tmp"]
)  # fmt: skip
def test_a_file_of_somebody_else_is_neither_removed_nor_replaced(tmp_path, name):
    path = tmp_path / "mine" / name
    path.parent.mkdir(parents=True)
    path.write_text("mine")
    out, err = run("train", *SMALL, "--per-length", "20", *folders(tmp_path / "mine"), status=2)
    assert out == "" and err.count("\n") == 1 and f"{path} is in the way" in err
    files = [path for path in (tmp_path / "mine").rglob("*") if path.is_file()]
    assert path.read_text() == "mine" and {*files} <= {path, tmp_path / "mine" / ".lock"}


@pytest.mark.parametrize("name", ["best.pt", "unfinished/last.pt.tmp", "unfinished"])
def test_a_link_is_neither_followed_nor_replaced(data, tmp_path, name):
    """Not even to a checkpoint."""
    fit(Run(fresh_model(data), data, TINY), tmp_path / "other", report=silent)
    target = tmp_path / "other" if name == "unfinished" else tmp_path / "other" / "best.pt"
    link = tmp_path / "mine" / name
    link.parent.mkdir(parents=True)
    link.symlink_to(target)
    before = (tmp_path / "other" / "best.pt").read_bytes()
    with pytest.raises(ValueError, match="is in the way"):
        fit(Run(fresh_model(data), data, TINY), tmp_path / "mine", report=silent)
    assert link.is_symlink() and (tmp_path / "other" / "best.pt").read_bytes() == before


@pytest.mark.parametrize("name", ["epoch-123-thesis.pt", "epoch-01.pt", "best.pt.bak", "notes"])
def test_other_names_are_left_alone(data, tmp_path, name):
    (tmp_path / name).write_text("mine")
    for _ in range(2):
        fit(Run(fresh_model(data), data, TINY), tmp_path, report=silent)
    assert (tmp_path / name).read_text() == "mine"
    ours = {".lock", "best.pt", "last.pt", *(f"epoch-00{i}.pt" for i in (1, 2, 3))}
    assert {path.name for path in tmp_path.iterdir()} == ours | {name}


def test_a_checkpoint_of_another_version_is_ours(data, tmp_path):
    fit(Run(fresh_model(data), data, TINY), tmp_path, report=silent)
    for path in tmp_path.glob("*.pt"):
        torch.save({"format": "seq2seq 1"}, path)
        assert checkpoint.is_ours(path)
        with pytest.raises(ValueError, match="no checkpoint of this version"):
            checkpoint.load(path)
    fit(Run(fresh_model(data), data, TINY), tmp_path, report=silent)
    assert checkpoint.load(tmp_path / "best.pt").settings == TINY


def test_the_newest_epoch_is_the_one_of_the_highest_number(tmp_path):
    (tmp_path / "last.pt").write_text("half of a ch")
    for name in ("epoch-999.pt", "epoch-1001.pt", "epoch-1000.pt", "epoch-2000-copy.pt"):
        (tmp_path / name).touch()
    with pytest.raises(ValueError, match="put epoch-1001.pt in its place"):
        checkpoint.latest(tmp_path)


def test_a_run_that_an_observer_ended_goes_on(data, tmp_path):
    one = Run(fresh_model(data), data, TINY)
    one.observers.append(lambda history: len(history) == 1)
    fit(one, tmp_path, report=silent)
    other = Run(fresh_model(data), data, TINY, checkpoint.latest(tmp_path))
    assert fit(other, tmp_path, report=silent) == fit(
        Run(fresh_model(data), data, TINY), report=silent
    )
    assert len(checkpoint.load(tmp_path / "last.pt").history) == 3


# F


@pytest.mark.parametrize(
    "lines, says",
    [
        ([f"{i} " + "w " * 13 for i in range(50)], "50 sentences read, 50 of more than 12 tokens"),
        ([], "0 sentences read, 0 of more than 12 tokens"),
        (
            ["same"] * 7 + ["Same.", ""],
            "8 sentences read, 0 of more than 12 tokens (--max-length), 7 ",
        ),
    ],
)
def test_a_corpus_that_is_too_small_says_what_became_of_it(tmp_path, lines, says):
    path = write(tmp_path / "text", lines)
    with pytest.raises(ValueError) as caught:
        Words().load(1, str(path))
    assert says in str(caught.value) and str(path) in str(caught.value)


def test_pairs_that_repeat_a_source_are_counted(tmp_path):
    path = write(tmp_path / "pairs", [f"I go.\tJe vais {i}." for i in range(50)])
    with pytest.raises(ValueError, match="50 sentences read, .* 49 that repeat another"):
        Translation().load(1, str(path))


def test_a_wrong_line_is_named_by_its_number_in_the_file(tmp_path):
    """Blank lines count, since an editor counts them."""
    path = write(tmp_path / "pairs", ["", "Go.\tVa !", "", "no tab"])
    with pytest.raises(ValueError, match="pairs: line 4 is not"):
        Translation().load(1, str(path))


@pytest.mark.parametrize("task", ["integers", "patterns"])
def test_too_few_of_the_generated_say_which_setting(tmp_path, task):
    flags = ["--task", task, "--per-length", "1", "--max-length", "3"]
    _, err = run("train", *flags, *folders(tmp_path), status=2)
    assert "choose a higher per_length or max_length" in err


def test_the_same_of_pairs(tmp_path):
    path = write(tmp_path / "pairs", [f"{i} {'a ' * 20}\tb" for i in range(9)])
    with pytest.raises(ValueError, match="9 sentences read, 9 of more than 12 tokens"):
        Translation().load(1, str(path))


@pytest.mark.parametrize("end", ["\r", "\n", "\r\n"])
def test_lines_may_end_in_any_way(tmp_path, end):
    path = tmp_path / "text"
    path.write_bytes(end.join(f"this is line {i}" for i in range(50)).encode())
    assert sum(map(len, Words().load(1, str(path)).sentences)) == 96, "50, and most shuffled"


# G


@pytest.mark.slow
def test_exact_match_is_the_same_in_training_and_evaluation(tmp_path):
    """Half of the words of this corpus are not in the vocabulary of the training part."""
    corpus = write(tmp_path / "text", [f"a{i} rare{i} word{i % 9}" for i in range(400)])
    flags = ["--epochs", "12", "--hidden-size", "16", "--lr", "0.02"]
    out, _ = run("train", *flags, "--corpus", corpus, *folders(tmp_path))
    printed = [line for line in out.splitlines() if "epoch" in line][-1]
    loaded = checkpoint.load(tmp_path / "last.pt")
    parts = Words().load(1, str(corpus))
    sentences, references = parts.sentences.valid, parts.references.valid
    file = write(tmp_path / "valid", [" ".join(tokens) for tokens in sentences])
    out, _ = run("evaluate", "--checkpoint", tmp_path / "last.pt", "--input", file)
    score = float(out.splitlines()[1].split(": ")[1])
    assert f"exact match {score:7.2%}" in printed and 0 < score < 1
    right = right_answers(loaded.model, parts, sentences, references)
    assert sum(right) / len(right) == pytest.approx(score, abs=1e-6)


def test_an_unknown_word_is_not_right_because_it_is_unknown():
    """Both sides would be <unk>; in words they differ."""
    vocab = Vocab([*SPECIALS, "cat"])
    model = mock.Mock(copies=True, longest=0)
    parts = mock.Mock(vocab=vocab, trg_vocab=vocab)
    with mock.patch("helpers.search.answers.decode_by_copying", return_value=[[1, 1]]):
        assert right_answers(model, parts, [("dog", "emu")], [("emu", "dog")]) == [False]


# I


@pytest.mark.parametrize("command", ["reverse", "translate"])
def test_an_argument_that_is_no_text_is_named(tmp_path, command):
    task = "words" if command == "reverse" else "translate"
    run("train", "--task", task, "--per-length", "20", *SMALL, *folders(tmp_path))
    broken = os.fsdecode(b"caf\xe9 au lait")
    out, err = run(command, "--checkpoint", tmp_path / "best.pt", "the cat", broken, status=2)
    assert err == "python -m helpers: sentence 2 is not UTF-8 text\n" and out == ""


def test_a_pipe_is_no_corpus(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    _, err = run("train", "--corpus", tmp_path / "pipe", *folders(tmp_path), status=2)
    assert f"the corpus {tmp_path / 'pipe'} can be read only once" in err and err.count("\n") == 1


@pytest.mark.slow
def test_a_run_that_does_not_hear_ctrl_c_goes_on(tmp_path):
    command = [sys.executable, "-m", "helpers", "train", *SMALL, "--per-length", "20"]
    command += map(str, folders(tmp_path))
    with subprocess.Popen(command, preexec_fn=unheard, stdout=subprocess.PIPE) as process:
        libraries = Path(f"/proc/{process.pid}/maps")
        while "torch" not in libraries.read_text():
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=120)
    assert process.returncode == 0 and (tmp_path / "best.pt").exists()


def unheard():
    """As a shell starts what a script puts into the background."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


@pytest.mark.slow
@pytest.mark.parametrize("seconds", [0.0, 0.2, 0.5])
def test_ctrl_c_is_one_line_from_the_beginning(tmp_path, seconds):
    """In the middle of the imports, from the moment when the first libraries are there."""
    command = [sys.executable, "-m", "helpers", "train", *map(str, folders(tmp_path))]
    options = {"stderr": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, preexec_fn=heed, **options) as process:
        libraries = Path(f"/proc/{process.pid}/maps")
        while "torch" not in libraries.read_text():
            time.sleep(0.01)
        time.sleep(seconds)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 130 and err.count("\n") == 1
    assert err.startswith("stopped")


def heed():
    """A process that was started in the background would not hear Ctrl-C."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.mark.parametrize(
    "error, full",
    [
        (MemoryError(), True),
        (torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"), True),
        (RuntimeError("[enforce] DefaultCPUAllocator: can't allocate memory: you tried"), True),
        (RuntimeError("CUDA error: an illegal memory access was encountered"), False),
        (RuntimeError("mat1 and mat2 must be in the same memory format"), False),
        (ValueError("memory"), False),
    ],
)
def test_only_a_lack_of_memory_is_called_one(tmp_path, error, full):
    assert is_out_of_memory(error) == full
    with mock.patch("helpers.models.RecurrentSettings.build", side_effect=error):
        if full:
            assert (
                "out of memory"
                in run("train", *SMALL, "--per-length", "20", *folders(tmp_path), status=2)[1]
            )
        elif isinstance(error, RuntimeError):
            with pytest.raises(RuntimeError, match="memory"):
                run("train", *SMALL, "--per-length", "20", *folders(tmp_path))


def test_a_checkpoint_that_does_not_fit_is_not_called_damaged(data, tmp_path):
    fit(Run(fresh_model(data), data, TINY), tmp_path, report=silent)
    error = RuntimeError(
        "DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes"
    )
    with mock.patch("torch.load", side_effect=error), pytest.raises(RuntimeError, match="allocate"):
        checkpoint.load(tmp_path / "best.pt")


@pytest.mark.slow
def test_names_of_other_bytes_are_printed_as_they_are_or_named(tmp_path):
    folder, curves = tmp_path / os.fsdecode(b"caf\xe9"), tmp_path / "curves"
    command = [sys.executable, "-m", "helpers", "train", *SMALL, "--per-length", "20"]
    command += ["--checkpoint-dir", folder, "--log-dir"]
    done = subprocess.run([*command, curves], capture_output=True)
    assert done.returncode == 0 and os.fsencode(folder / "best.pt") in done.stdout
    done = subprocess.run([*command, folder], capture_output=True)  # TensorBoard writes no such
    assert done.returncode == 2 and done.stderr.count(b"\n") == 2
    assert b"is not UTF-8 text" in done.stderr


# J


def test_each_kind_of_warning_names_its_words_and_counts_its_lines(tmp_path):
    flags = ["--task", "translate", "--per-length", "20", *SMALL]
    run("train", *flags, *folders(tmp_path))
    lines = ["The cat sleeps.", "One emu, two emus and a gnu or an okapi.", "No yak!", "A yak."]
    stdin = "\n".join(lines).encode()
    _, err = run("translate", "--checkpoint", tmp_path / "best.pt", stdin=stdin)
    said = whole(err).splitlines()
    assert said[0].startswith("warning: line 2 has words that the model does not know (")
    assert "emu, " in said[0] and ", ...)" in said[0]
    assert said[-1] == "warning: 3 lines in all have words that the model does not know"


def test_one_line_needs_no_sum(tmp_path):
    run("train", "--task", "translate", "--per-length", "20", *SMALL, *folders(tmp_path))
    _, err = run("translate", "--checkpoint", tmp_path / "best.pt", "No yak!")
    assert "yak" in err and "lines in all" not in err


def test_each_argument_of_translate_is_a_sentence(tmp_path):
    run("train", "--task", "translate", "--per-length", "20", *SMALL, *folders(tmp_path))
    out, _ = run("translate", "--checkpoint", tmp_path / "best.pt", "Sing!", "Sleep!")
    assert out.count("\n") == 2


# K


@pytest.mark.slow
def test_two_runs_do_not_share_a_folder_of_curves(data, tmp_path):
    with checkpoint.claim(tmp_path / "curves"):
        code = "import sys, pathlib; from helpers.runs import checkpoint\n"
        code += "with checkpoint.claim(None, pathlib.Path(sys.argv[1])): pass"
        command = [sys.executable, "-c", code, tmp_path / "curves"]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 1 and f"training in {tmp_path / 'curves'}" in done.stderr
    run_with_curves(data, tmp_path)
    with mock.patch("helpers.runs.checkpoint.claim", side_effect=KeyError) as claim:
        with pytest.raises(KeyError):
            run_with_curves(data, tmp_path)
    assert claim.call_args.args == (tmp_path / "run", tmp_path / "log")


def test_no_two_folders_of_checkpoints_share_their_curves(tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    names = [
        "checkpoints/words",
        "checkpoints/a/mine",
        "checkpoints/a",
        "words",
        "a/mine",
        "..",
        ".",
    ]
    names += ["b/mine", "checkpoints", "runs", tmp_path / "here" / "tmp", "/tmp/zz", "tmp/zz"]
    curves = [default_log_dir(Path(name)) for name in names]
    assert curves[0].as_posix() == "runs/words" and curves[3].as_posix() == "words/runs"
    assert len({path.resolve() for path in curves}) == len(names)


# M


@pytest.fixture
def windows(monkeypatch):
    """A system that does not open folders, and does not replace a file that `open` has opened."""
    opened, replace, open_file = os.open, os.replace, builtins.open
    handles = {}

    def open_no_folder(path, *args, **options):
        if os.path.isdir(path):
            raise PermissionError(13, "Permission denied", str(path))
        return opened(path, *args, **options)

    def open_and_note(path, *args, **options):
        file = open_file(path, *args, **options)
        handles[os.fspath(path) if not isinstance(path, int) else path] = file
        return file

    def replace_what_is_closed(path, target):
        for name in (path, target):
            file = handles.get(os.fspath(name))
            if file and not file.closed:
                raise PermissionError(13, "in use", str(target))
        replace(path, target)

    monkeypatch.setattr(os, "open", open_no_folder)
    monkeypatch.setattr(builtins, "open", open_and_note)
    monkeypatch.setattr(os, "replace", replace_what_is_closed)


def test_training_where_folders_cannot_be_opened(data, tmp_path, windows):
    for _ in range(2):
        fit(Run(fresh_model(data), data, TINY), tmp_path, report=silent)
    assert len(checkpoint.load(tmp_path / "last.pt").history) == 3


def test_a_file_that_is_open_for_a_moment_is_replaced(tmp_path, windows, monkeypatch):
    path = tmp_path / "best.pt"
    checkpoint.write(path, b"old")
    reader = open(path, "rb")  # noqa: SIM115
    monkeypatch.setattr(checkpoint, "sleep", lambda seconds: reader.close())
    checkpoint.write(path, b"new")
    assert path.read_bytes() == b"new"


def test_a_file_that_stays_open_keeps_what_it_holds(tmp_path, windows, monkeypatch):
    path, pauses = tmp_path / "best.pt", []
    checkpoint.write(path, b"old")
    monkeypatch.setattr(checkpoint, "sleep", pauses.append)
    with open(path, "rb"):
        with pytest.raises(OSError, match="in use"):
            checkpoint.write(path, b"new")
    assert path.read_bytes() == b"old" and [*tmp_path.iterdir()] == [path] and sum(pauses) == 2


@pytest.mark.slow
def test_a_console_of_another_encoding(tmp_path):
    """Words come out as UTF-8, and warnings do not fail."""
    env = os.environ | {"PYTHONIOENCODING": "cp1252", "PYTHONUTF8": "0"}
    flags = ["--task", "translate", "--per-length", "20", *SMALL, *map(str, folders(tmp_path))]
    options = {"env": env, "capture_output": True}
    subprocess.run([sys.executable, "-m", "helpers", "train", *flags], check=True, **options)
    command = [sys.executable, "-m", "helpers", "translate", "--checkpoint", tmp_path / "best.pt"]
    done = subprocess.run([*command, "日本 ☃ cat"], **options)
    assert done.returncode == 0 and b"does not know" in done.stderr
    done.stdout.decode("utf-8")


# and besides


@pytest.mark.parametrize(
    "flags",
    [
        {"optimizer": "sgd", "lr": 1e-5},
        {"optimizer": "sgd", "lr": 0.1, "max_norm": 1e-3},
        {"lr": 1e-3, "weight_decay": 1e-3},
        {"optimizer": "sgd", "lr": 0.01, "weight_decay": 1e-5},
    ],
)
def test_steps_that_the_grid_would_swallow_are_refused(flags):
    with pytest.raises(ValueError, match="too small for parameters rounded to 2.-20"):
        Settings.of(**flags)
    assert Settings.of(**flags, precision="float32").run.precision == "float32"


def test_a_loss_that_half_precision_cannot_hold_is_a_step_left_out(data):
    settings = TINY.having(precision="float32", amp=True)
    run, seen = Run(fresh_model(data, settings), data, settings), []
    forward = run.learner.forward

    def overflow_once(*inputs):
        logits, weights = forward(*inputs)
        seen.append(logits)
        return (logits * torch.inf if len(seen) == 2 else logits), weights

    run.learner.forward = overflow_once
    history = fit(run, report=silent)
    assert len(history) == 3 and all(record["train loss"] > 0 for record in history)
    assert run.learner.scaler.get_scale() == 2.0**15, "halved once"


def test_a_loss_that_is_never_finite_ends_the_run(data):
    settings = TINY.having(precision="float32", amp=True, epochs=9)
    run = Run(fresh_model(data, settings), data, settings)
    forward = run.learner.forward
    run.learner.forward = lambda *inputs: (forward(*inputs)[0] * torch.nan, None)
    with pytest.raises(FloatingPointError):
        fit(run, report=silent)
