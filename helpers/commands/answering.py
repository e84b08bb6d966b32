"""What the commands that answer have in common: a checkpoint; for each sentence a line."""

import argparse
import os
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from functools import partial
from itertools import tee
from math import inf
from pathlib import Path

from helpers.commands.heatmap import DRAWN, draw
from helpers.commands.shell import log
from helpers.data import Sentence, Vocab, tokenize
from helpers.runs import checkpoint
from helpers.runs.checkpoint import Checkpoint
from helpers.runs.device import choose_device, use_threads
from helpers.runs.settings import Settings
from helpers.search.answers import predict
from helpers.training import set_up

LIMIT = 1_000  # words in a line, for a model that does not take any length
UNKNOWN = "words that the model does not know"


class Warnings:
    """What is wrong with lines: told of the first that it concerns, and at the end of how many."""

    def __init__(self):
        self.counts: Counter[str] = Counter()

    def add(self, what: str, number: int, says: str) -> None:
        """Counts line `number` among those that "`what`" (have ...); it `says` "has ..."."""
        self.counts[what] += 1
        if self.counts[what] == 1:
            log(f"warning: line {number} {says}")

    def sum_up(self) -> None:
        """Says what concerned more than one line."""
        for what, count in self.counts.items():
            if count > 1:
                log(f"warning: {count} lines in all {what}")


def answer_command(args: argparse.Namespace, tasks: tuple[str, ...]) -> None:
    """Prints an answer for each sentence among the arguments, or else on standard input. The model
    must have been trained for one of the `tasks`.
    """
    if not args.sentence and sys.stdin is None:
        raise ValueError("neither sentences nor standard input to work on")
    device = choose_device(args.device)
    path = args.checkpoint or default_checkpoint(tasks[0])
    if not (args.checkpoint or path.exists()):
        command = f"python -m helpers train --task {tasks[0]}"
        raise FileNotFoundError(f"no checkpoint at {path}: make one with `{command}`")
    loaded = load_model(path, device)
    task = loaded.settings.task
    if task.name not in tasks:
        raise ValueError(f"{path} was trained for {task.name}, not for {tasks[0]}")
    if loaded.model.copies and args.beam != 1:
        raise ValueError(f"{path} copies words, and has no use for a beam: name another checkpoint")
    lines = [text_of(i, sentence) for i, sentence in enumerate(args.sentence, start=1)]
    if lines and task.mirrors and all(len(tokenize(sentence)) == 1 for sentence in lines):
        lines = [" ".join(lines)]
    typed = not lines and sys.stdin.isatty()
    chunk = 1 if typed else 500  # somebody who types wants each answer at once
    tokens_of = partial(task.tokenize, vocab=loaded.vocab)
    sentences, warnings = map(tokens_of, lines or stdin_lines()), Warnings()
    if not task.mirrors:
        sentences = warn_of_guesses(loaded.vocab, sentences, warnings)
    drawn, kept = None, tee(sentences)
    answers = answer(loaded, kept[0], args.beam, chunk, warnings)
    for tokens, words in zip(kept[1], answers, strict=True):
        print(task.join(words, loaded.trg_vocab), flush=typed)
        if not drawn and words and max(len(tokens), len(words)) <= DRAWN:
            drawn = tokens, words
    if args.heatmap and drawn:
        draw(loaded, *drawn, args.heatmap)
    elif args.heatmap:
        says = f"no sentence of at most {DRAWN} words has an answer"
        log(f"warning: {says}: nothing to draw in {args.heatmap}")


def text_of(number: int, argument: str) -> str:
    """The argument, if it is text; else raises ValueError."""
    try:
        argument.encode()
    except UnicodeEncodeError:
        raise ValueError(f"sentence {number} is not UTF-8 text") from None
    return argument


def warn_of_guesses(
    vocab: Vocab, sentences: Iterable[Sentence], warnings: Warnings
) -> Iterator[Sentence]:
    """Passes the sentences on; warns of those with words that the vocabulary does not have."""
    for number, tokens in enumerate(sentences, start=1):
        if unknown := vocab.unknown(tokens):
            says = f"has {UNKNOWN} ({a_few(unknown)}): its translation is a guess"
            warnings.add(f"have {UNKNOWN}", number, says)
        yield tokens


def a_few(words: Iterable[str]) -> str:
    """The first three of the words, each once, in printable characters and not too long."""
    shown = ("".join(c if c.isprintable() else "?" for c in word[:40]) for word in words)
    distinct = list(dict.fromkeys(shown))
    return ", ".join([*distinct[:3], *["..."] * (len(distinct) > 3)])


def default_checkpoint(task: str) -> Path:
    """That of the model for any length, if there is one; else that of the plain one."""
    plain, located = Settings.of(task=task), {"attention": "location"}
    folders = [Settings.of(task=task, **located).folder()] if plain.task.mirrors else []
    paths = [folder / "best.pt" for folder in (*folders, plain.folder())]
    return next((path for path in paths if path.exists()), paths[-1])


def load_model(path: Path, device: str) -> Checkpoint:
    """The checkpoint, its model on the device, with precision and threads as in its training."""
    loaded = checkpoint.load(path)
    loaded.model.to(device)
    as_in_training(loaded)
    return loaded


def as_in_training(loaded: Checkpoint) -> None:
    """Sets precision and threads to those of a checkpoint."""
    set_up(loaded.settings.run.seed, loaded.settings.run.dtype)
    use_threads(loaded.settings.run.threads)


def stdin_lines() -> Iterator[str]:
    sys.stdin.reconfigure(encoding="utf-8-sig", newline="\n")
    try:
        yield from sys.stdin
    except UnicodeDecodeError:
        raise ValueError("standard input is not UTF-8 text") from None


def answer(
    loaded: Checkpoint,
    sentences: Iterable[Sentence],
    beam: int,
    chunk: int = 500,
    warnings: Warnings | None = None,
) -> Iterator[list[str]]:
    """What the model writes for each sentence, with warnings where that is worth little."""
    warnings = warnings or Warnings()
    checked, kept = tee(check(loaded, sentences, warnings))
    answers = predict(loaded.model, loaded.vocab, loaded.trg_vocab, checked, chunk, beam)
    for number, (reply, tokens) in enumerate(zip(answers, kept, strict=True), start=1):
        given, written = len(tokens), len(reply.words)
        if loaded.model.copies and given != written and loaded.vocab.knows(tokens):
            says = f"has {given} words, its answer {written}"
            warnings.add("have another number of words than their answers", number, says)
        if not reply.ended:
            says = f"has an answer without an end: it is cut off after {written} words"
            warnings.add("have an answer that is cut off", number, says)
        yield reply.words
    warnings.sum_up()


def check(
    loaded: Checkpoint, sentences: Iterable[Sentence], warnings: Warnings
) -> Iterator[Sentence]:
    """Passes the sentences on, an empty one for what is too long altogether. Warns of these, of
    those that are longer than those of the training, if that matters to the model, and of those
    that a model which knows no unknown words cannot read.
    """
    of_any_length, longest = loaded.model.any_length, loaded.settings.task.max_length
    limit = limit_of_memory(loaded) if of_any_length else LIMIT
    for number, tokens in enumerate(sentences, start=1):
        if len(tokens) > limit:
            what = f"more than the {limit} that this model takes"
            says = f"has {len(tokens)} words, {what}: it stays empty"
            warnings.add(f"have {what}", number, says)
            tokens = ()
        if len(tokens) > longest and not of_any_length:
            what = f"more words than the {longest} of the longest sentence of the training"
            says = f"has {len(tokens)} words; the model was trained on up to {longest}, its answers"
            warnings.add(f"have {what}", number, f"{says} to longer ones are likely to be wrong")
        if not loaded.vocab.knows(tokens):
            says = f"has {UNKNOWN} ({a_few(loaded.vocab.unknown(tokens))}): it stays empty"
            warnings.add(f"have {UNKNOWN}", number, says)
        yield tokens


def limit_of_memory(loaded: Checkpoint) -> float:
    """The words in a line that the memory of this machine is enough for, where it says how much it
    has: for each there are an output of the encoder and a key, and, when the first step looks at
    all of them, twice as much again.
    """
    sizes, size = loaded.settings.model, loaded.settings.run.dtype.itemsize
    bytes_a_word = 3 * (2 * sizes.hidden_size + sizes.attn_size) * size
    try:
        pages = os.sysconf("SC_PHYS_PAGES")
        return pages * os.sysconf("SC_PAGE_SIZE") // bytes_a_word if pages > 0 else inf
    except (AttributeError, ValueError, OSError):
        return inf
