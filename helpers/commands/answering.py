"""What the commands that answer have in common: a checkpoint; for each sentence a line."""

import argparse
import sys
from collections.abc import Iterable, Iterator
from itertools import tee
from pathlib import Path

from helpers.commands.shell import Parser, log
from helpers.data import Sentence, Vocab, tokenize
from helpers.runs import checkpoint
from helpers.runs.checkpoint import Checkpoint
from helpers.runs.settings import Settings
from helpers.search.answers import predict
from helpers.training import set_up

LIMIT, LIMIT_OF_ANY_LENGTH = 1_000, 10_000  # words in a line


def answer_command(args: argparse.Namespace, tasks: tuple[str, ...]) -> None:
    """Prints an answer for each sentence among the arguments, or else on standard input. The model
    must have been trained for one of the `tasks`.
    """
    if not args.sentence and sys.stdin is None:
        raise ValueError("neither sentences nor standard input to work on")
    path = args.checkpoint or default_checkpoint(tasks[0])
    if not path.exists():
        command = f"python -m helpers train --task {tasks[0]}"
        raise FileNotFoundError(f"no checkpoint at {path}: make one with `{command}`")
    loaded = load_model(path)
    task = loaded.settings.task
    if task.name not in tasks:
        raise ValueError(f"{path} was trained for {task.name}, not for {tasks[0]}")
    lines = args.sentence or stdin_lines()
    if args.sentence and all(len(tokenize(sentence)) == 1 for sentence in args.sentence):
        lines = [" ".join(args.sentence)]
    typed = not args.sentence and sys.stdin.isatty()
    chunk = 1 if typed else 500  # somebody who types wants each answer at once
    sentences = map(task.tokenize, lines)
    if not task.mirrors:
        sentences = warn_of_guesses(loaded.vocab, sentences)
    for words in answer(loaded, sentences, args.beam, chunk):
        print(task.join(words), flush=typed)


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
    plain, located = Settings.of(task=task), {"attention": "location"}
    folders = [Settings.of(task=task, **located).folder()] if plain.task.mirrors else []
    paths = [folder / "best.pt" for folder in (*folders, plain.folder())]
    return next((path for path in paths if path.exists()), paths[-1])


def load_model(path: Path) -> Checkpoint:
    """The checkpoint, with precision and threads as in its training."""
    loaded = checkpoint.load(path)
    set_up(loaded.settings.run.seed, loaded.settings.run.dtype)
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
    copies, warned = loaded.model.copies, False
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
    of_any_length, longest = loaded.model.any_length, loaded.settings.task.max_length
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


def add_sentences(parser: Parser) -> None:
    parser.add_argument(
        "sentence",
        nargs="*",
        metavar="SENTENCE",
        help="each is one sentence, quoted; single words together make one",
    )


def add_checkpoint(parser: Parser, folders: str) -> None:
    """The flags of a command that uses a checkpoint, by default that in one of the `folders`."""
    parser.add_argument(
        "--checkpoint",
        type=Path,
        metavar="FILE",
        help=f"made by train (default: best.pt in checkpoints/{folders})",
    )
    parser.add_argument(
        "--beam",
        type=beam_width,
        default=1,
        metavar="N",
        help="beginnings kept in a beam search (default: 1, greedy)",
    )


def beam_width(text: str) -> int:
    if not (text.isdecimal() and 1 <= int(text) <= 100):
        raise argparse.ArgumentTypeError(f"must be an integer from 1 to 100, not {text!r}")
    return int(text)
