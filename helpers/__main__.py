"""The command line: train a model, evaluate it, and reverse or translate sentences with it.

Results go to stdout, progress and warnings to stderr. A mistake in the input ends with exit status
2 and one line on stderr.
"""

import argparse
import json
import os
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures.process import BrokenProcessPool
from contextlib import nullcontext, suppress
from dataclasses import Field, fields, replace
from functools import partial
from itertools import tee
from math import isfinite
from pathlib import Path

from tqdm import tqdm

from helpers import checkpoint, translation
from helpers.benchmark import benchmark
from helpers.build import build_model
from helpers.checkpoint import Checkpoint
from helpers.config import Config
from helpers.data import Sentence, Vocab, tokenize
from helpers.decoding import predict
from helpers.device import choose_device, processes, set_up
from helpers.metrics import exact_match, matches, token_accuracy, wilson_interval
from helpers.tasks import load_task, read_examples
from helpers.training import is_over, train

NAMES = [spec.name for spec in fields(Config)]


class Parser(argparse.ArgumentParser):
    """Reports a mistake in one line, without the usage."""

    def error(self, message: str):
        self.exit(2, f"{self.prog}: {one_line(message)} (see {self.prog} --help)\n")


LIMIT, LIMIT_OF_ANY_LENGTH = 1_000, 10_000  # words in a line; the second: of the model location
FIRST = os.environ.get("RANK", "0") == "0"  # of the processes that torchrun started, or alone


def log(message: str) -> None:
    """Writes a line to stderr; nobody may be listening."""
    if FIRST and sys.stderr is not None:
        with suppress(OSError):
            print(message, file=sys.stderr, flush=True)


def one_line(message: object) -> str:
    return " ".join(str(message).split())


def train_command(args: argparse.Namespace) -> None:
    """Train a model; its best epoch becomes the checkpoint best.pt."""
    settings = {name: getattr(args, name) for name in NAMES if hasattr(args, name)}
    names = {name: settings.get(name, getattr(Config, name)) for name in ("task", "model")}
    folder = args.checkpoint_dir or checkpoint.default_folder(**names)
    with checkpoint.claim(folder) if FIRST and folder.is_dir() else nullcontext():
        begin_or_resume(args, settings, folder)


def begin_or_resume(args: argparse.Namespace, settings: dict, folder: Path) -> None:
    saved = checkpoint.latest(folder) if args.resume or checkpoint.is_unfinished(folder) else None
    if saved and saved.history and not args.resume:
        raise ValueError(
            f"{folder} holds a run that was broken off: go on with --resume, or remove "
            f"{folder / checkpoint.UNFINISHED} to begin anew"
        )
    saved = saved if args.resume else None
    base = saved.config if saved else Config()
    device = choose_device(settings.get("device", base.device if saved else "auto"))
    amp = settings.get("amp", base.amp if saved else device == "cuda")
    config = replace(base, **settings | {"device": device, "amp": amp})
    if saved:
        saved.config.check_same(config)
    if amp and device == "cpu":
        raise ValueError("mixed precision needs a GPU: leave out --amp")
    with processes(device):
        if args.resume and not saved:
            log(f"nothing to resume in {folder}: a new run begins")
        if saved and is_over(saved.history, config):
            log(f"the run in {folder} is over already; this is what it said")
        run_training(args, config, folder, saved)


def run_training(
    args: argparse.Namespace, config: Config, folder: Path, saved: Checkpoint | None
) -> None:
    set_up(config.seed, config.device)
    task = load_task(config, args.corpus if args.corpus is not None or not saved else saved.corpus)
    if task.left_out:
        log(f"left out {task.left_out} sentences of more than {config.max_length} tokens")
    sizes = ", ".join(f"{len(part)} {name}" for name, part in task.pairs._asdict().items())
    log(f"pairs: {sizes}; vocabulary: {len(task.vocab)} and {len(task.trg_vocab)} symbols")
    model = build_model(config, len(task.vocab), len(task.trg_vocab))
    log_dir = args.log_dir or Path("runs", folder.name)
    started = time.perf_counter()
    report = partial(print, flush=True)  # each line when it is known, also in a file or a pipe
    train(model, task, config, folder, saved, log_dir, report=report, progress=sys.stderr)
    if not (saved and is_over(saved.history, config)):
        log(f"trained in {time.perf_counter() - started:.0f} s")
    if FIRST:
        print(f"checkpoint: {folder / 'best.pt'}")


def evaluate_command(args: argparse.Namespace) -> None:
    """Measure a model on its held-out test set, or on the lines of a file."""
    loaded = load_model(args.checkpoint or checkpoint.default_folder() / "best.pt")
    if args.input:
        sentences, references = read_examples(args.input, loaded.config.task)
    else:
        task = load_task(loaded.config, loaded.corpus)
        if task.digest() != loaded.digest:
            source = loaded.corpus or "the generated data"
            raise ValueError(f"{source} has changed since the training: give the test as --input")
        sentences, references = task.sentences.test, task.references.test
    answers = answer(loaded, sentences, args.beam)
    hypotheses = list(tqdm(answers, "evaluate", len(sentences), leave=False))
    low, high = wilson_interval(sum(matches(hypotheses, references)), len(references))
    print(f"sentences: {len(references)}")
    print(f"exact match: {exact_match(hypotheses, references):.6f}")
    print(f"exact match 95% low: {low:.6f}")
    print(f"exact match 95% high: {high:.6f}")
    print(f"token accuracy: {token_accuracy(hypotheses, references):.6f}")


def reverse_command(args: argparse.Namespace) -> None:
    """Reverse sentences: the arguments, or else the lines of standard input, 500 at a time."""
    answer_command(args, ("words", "integers"), tokenize, " ".join)


def translate_command(args: argparse.Namespace) -> None:
    """Translate sentences: the arguments, or else the lines of standard input, 500 at a time."""
    answer_command(args, ("translate",), translation.tokenize, translation.detokenize)


def benchmark_command(args: argparse.Namespace) -> None:
    """Measure training, decoding and Adam beside plainer ways, and how a step grows."""
    values = {}
    for name, value in benchmark():
        rounded = float(f"{value:.3g}")
        print(f"{name}: {rounded:g}", flush=True)
        values[name] = rounded if isfinite(rounded) else None  # JSON has no NaN
    if args.json:
        checkpoint.write(args.json, (json.dumps(values, indent=1) + "\n").encode())


def answer_command(
    args: argparse.Namespace,
    tasks: tuple[str, ...],
    split: Callable[[str], Sentence],
    join: Callable[[list[str]], str],
) -> None:
    if not args.sentence and sys.stdin is None:
        raise ValueError("neither sentences nor standard input to work on")
    path = args.checkpoint or default_checkpoint(tasks[0])
    if not path.exists():
        command = f"python -m helpers train --task {tasks[0]}"
        raise FileNotFoundError(f"no checkpoint at {path}: make one with `{command}`")
    loaded = load_model(path)
    if loaded.config.task not in tasks:
        raise ValueError(f"{path} was trained for {loaded.config.task}, not for {tasks[0]}")
    lines = args.sentence or stdin_lines()
    if args.sentence and all(len(tokenize(sentence)) == 1 for sentence in args.sentence):
        lines = [" ".join(args.sentence)]
    typed = not args.sentence and sys.stdin.isatty()
    chunk = 1 if typed else 500  # somebody who types wants each answer at once
    sentences = map(split, lines)
    if loaded.config.task == "translate":
        sentences = warn_of_guesses(loaded.vocab, sentences)
    for words in answer(loaded, sentences, args.beam, chunk):
        print(join(words), flush=typed)


def warn_of_guesses(vocab: Vocab, sentences: Iterable[Sentence]) -> Iterator[Sentence]:
    """Passes the sentences on; warns of the first with words that the vocabulary does not have."""
    warned = False
    for number, tokens in enumerate(sentences, start=1):
        if not warned and vocab.unknown(tokens):
            says = "has words that the model does not know: its translation is a guess"
            log(f"warning: line {number} {says}")
            warned = True
        yield tokens


def default_checkpoint(task: str) -> Path:
    """That of the model for any length, if there is one; else that of the plain one."""
    folders = [checkpoint.default_folder(task, model) for model in ("location", Config.model)]
    paths = [folder / "best.pt" for folder in folders]
    return next((path for path in paths if path.exists()), paths[-1])


def load_model(path: Path) -> Checkpoint:
    loaded = checkpoint.load(path)
    set_up(loaded.config.seed)
    return loaded


def stdin_lines() -> Iterator[str]:
    sys.stdin.reconfigure(encoding="utf-8-sig", newline="\n")
    try:
        yield from sys.stdin
    except UnicodeDecodeError:
        raise ValueError("standard input is not UTF-8 text") from None


def answer(
    loaded: Checkpoint, sentences: Iterable[Sentence], beam: int, chunk: int = 500
) -> Iterator[list[str]]:
    """What the model writes for each sentence, with warnings where that is worth little."""
    copies, warned = loaded.config.model == "location", False
    checked, kept = tee(check(loaded, sentences))
    answers = predict(loaded.model, loaded.vocab, loaded.trg_vocab, checked, chunk, beam)
    for number, (words, tokens) in enumerate(zip(answers, kept, strict=True), start=1):
        if copies and len(words) != len(tokens) and not warned:
            log(f"warning: line {number} has {len(tokens)} words, its answer {len(words)}")
            warned = True
        yield words


def check(loaded: Checkpoint, sentences: Iterable[Sentence]) -> Iterator[Sentence]:
    """Passes the sentences on, an empty one for what is too long altogether; warns of the first of
    these, of the first that is longer than those of the training, if that matters to the model, and
    of the first that a model which knows no unknown words cannot read.
    """
    of_any_length, longest = loaded.config.model == "location", loaded.config.max_length
    limit = LIMIT_OF_ANY_LENGTH if of_any_length else LIMIT
    warned_of_limit = warned_of_long = warned_of_words = False
    for number, tokens in enumerate(sentences, start=1):
        if len(tokens) > limit:
            if not warned_of_limit:
                log(
                    f"warning: line {number} has {len(tokens)} words, more than the {limit} that "
                    "this model takes: it stays empty"
                )
            warned_of_limit, tokens = True, ()
        if len(tokens) > longest and not warned_of_long and not of_any_length:
            log(
                f"warning: a sentence of {len(tokens)} words; the model was trained on up to "
                f"{longest}, its answers to longer ones are likely to be wrong"
            )
            warned_of_long = True
        if not loaded.vocab.knows(tokens) and not warned_of_words:
            log(f"warning: line {number} has words that the model does not know: it stays empty")
            warned_of_words = True
        yield tokens


def build_parser() -> Parser:
    parser = Parser(
        "python -m helpers",
        description="Reverse the word order of sentences, or translate them.",
        allow_abbrev=False,
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def add_command(name: str, run: Callable[[argparse.Namespace], None]) -> Parser:
        help = run.__doc__
        sub = commands.add_parser(name, help=help, description=help, allow_abbrev=False)
        sub.set_defaults(run=run)
        return sub

    sub = add_command("train", train_command)
    for spec in fields(Config):
        add_setting(sub, spec)
    sub.add_argument(
        "--corpus",
        metavar="FILE",
        help="train on this text, one sentence (or english<tab>french) a line, not on a grammar",
    )
    add_folder = partial(sub.add_argument, type=folder_name, metavar="DIR")
    add_folder(
        "--checkpoint-dir", help="for the checkpoints (default: checkpoints/TASK, or TASK-MODEL)"
    )
    add_folder("--log-dir", help="for TensorBoard (default: runs/NAME of the checkpoint folder)")
    sub.add_argument(
        "--resume",
        action="store_true",
        help="go on with the run in the checkpoint folder that was broken off, with its settings",
    )

    evaluate = add_command("evaluate", evaluate_command)
    evaluate.add_argument(
        "--input",
        type=Path,
        metavar="FILE",
        help="test on this text, one sentence (or english<tab>french) a line",
    )
    subs = [add_command("reverse", reverse_command), add_command("translate", translate_command)]
    for sub in subs:
        sub.add_argument(
            "sentence",
            nargs="*",
            metavar="SENTENCE",
            help="each is one sentence, quoted; single words together make one",
        )
    for sub in (evaluate, *subs):
        kind = {subs[0]: "words-location, or else words", subs[1]: "translate"}.get(sub, "words")
        sub.add_argument(
            "--checkpoint",
            type=Path,
            metavar="FILE",
            help=f"made by train (default: best.pt in checkpoints/{kind})",
        )
        sub.add_argument(
            "--beam",
            type=beam_width,
            default=1,
            metavar="N",
            help="beginnings kept in a beam search (default: 1, greedy)",
        )
    sub = add_command("benchmark", benchmark_command)
    sub.add_argument(
        "--json", type=output_file, metavar="FILE", help="write the values to this file, too"
    )
    return parser


def folder_name(text: str) -> Path:
    if not text.strip():
        raise argparse.ArgumentTypeError("must not be empty")
    return Path(text)


def output_file(text: str) -> Path:
    path = Path(text)
    if not path.parent.is_dir() or (path.exists() and not path.is_file()):
        raise argparse.ArgumentTypeError(f"must be a file in an existing folder, not {text!r}")
    return path


def beam_width(text: str) -> int:
    if not (text.isdecimal() and 1 <= int(text) <= 100):
        raise argparse.ArgumentTypeError(f"must be an integer from 1 to 100, not {text!r}")
    return int(text)


def add_setting(parser: Parser, spec: Field) -> None:
    """A flag for a field of `Config`; only a flag that the user gives appears among the results."""
    flag, default, help = "--" + spec.name.replace("_", "-"), spec.default, spec.metadata["help"]
    kind = {"type": spec.type, "metavar": "X"}
    if spec.name == "device":
        kind, default = {"choices": ("auto", *spec.metadata["options"])}, "auto"
    elif spec.name == "amp":
        kind, default = {"action": argparse.BooleanOptionalAction}, "on a GPU"
    elif "options" in spec.metadata:
        kind = {"choices": spec.metadata["options"]}
    help = f"{help} (default: {default})"
    parser.add_argument(flag, default=argparse.SUPPRESS, help=help, **kind)


def main(argv: list[str] | None = None) -> int:
    args = build_parser().parse_args(argv)
    way_on = "; the same command with --resume goes on" if args.run is train_command else ""
    return guarded(partial(args.run, args), "python -m helpers", way_on)


def guarded(run: Callable[[], None], name: str, way_on: str = "") -> int:
    """Calls `run` and returns the exit status. Whatever stops it that is no fault of ours becomes
    one line on stderr, with the `name` of the command, or with the `way_on` after a stop.
    """
    if sys.stdout is None:
        log(f"{name}: there is no standard output to write to")
        return 2
    sys.stdout.reconfigure(encoding="utf-8")
    try:
        run()
        sys.stdout.flush()
    except BrokenPipeError:  # the reader, `head` perhaps, has had enough
        forget_output()
        if way_on:
            log(f"nobody reads the output any more: stopped{way_on}")
            return 2
    except (OSError, ValueError, FloatingPointError) as error:
        named = isinstance(error, OSError) and error.filename is not None
        reason = f"{error.filename}: {error.strerror}" if named else error
        log(f"{name}: {one_line(reason)}")
        forget_output()
        return 2
    except (MemoryError, RuntimeError) as error:
        full = isinstance(error, (MemoryError, BrokenProcessPool)) or "memory" in str(error).lower()
        if FIRST and not full:
            raise
        advice = ": try a smaller model or batch, or --accumulate" if way_on else ""
        log(f"{name}: out of memory{advice}")
        return 2
    except KeyboardInterrupt:
        log(f"stopped{way_on}")
        return 130
    return 0


def forget_output() -> None:
    """Sends what could not be written, if there is any, to nowhere, lest Python try it again."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def quiet(args) -> None:
    """For an error in a thread. When TensorBoard's cannot write, ours is told as well."""
    if not issubclass(args.exc_type, OSError):
        threading.__excepthook__(args)


if __name__ == "__main__":
    threading.excepthook = quiet
    sys.exit(main())
