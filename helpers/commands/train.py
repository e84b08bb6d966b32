"""`python -m helpers train`"""

import argparse
import sys
import time
from contextlib import nullcontext
from dataclasses import fields
from functools import partial
from pathlib import Path

from helpers.commands.shell import FIRST, log
from helpers.runs import checkpoint
from helpers.runs.checkpoint import Checkpoint
from helpers.runs.device import choose_device, has_half, processes
from helpers.runs.loop import Run, fit, is_over, prepare
from helpers.runs.settings import DEFAULTS, KINDS, RunSettings, Settings
from helpers.tasks import TASKS
from helpers.tasks.task import Corpus

GROUPS = [kind for kinds in KINDS.values() for kind in kinds.values()] + [RunSettings]
NAMES = [*KINDS, *dict.fromkeys(spec.name for group in GROUPS for spec in fields(group))]


def run(args: argparse.Namespace) -> None:
    """Begins a run, or goes on with one, where no other process is at work."""
    flags = {name: getattr(args, name) for name in NAMES if hasattr(args, name)}
    folder = args.checkpoint_dir or default_folder(args, flags)
    with checkpoint.claim(folder) if FIRST and folder.is_dir() else nullcontext():
        begin_or_resume(args, flags, folder)


def default_folder(args: argparse.Namespace, flags: dict) -> Path:
    """The folder of the task and the model that are asked for."""
    recipe = recipe_of(args, flags)
    return Settings.choose(flags | {"device": "cpu", "amp": False}, recipe).folder(recipe)


def default_log_dir(folder: Path) -> Path:
    """For the curves of a run: in runs/, as its checkpoints are in checkpoints/, or, if these are
    elsewhere, beside them. So no two folders of checkpoints share their curves.
    """
    path, place = folder.resolve(), Path("checkpoints").resolve()
    if place in path.parents:
        return Path("runs", path.relative_to(place))
    return folder / "runs"


def begin_or_resume(args: argparse.Namespace, flags: dict, folder: Path) -> None:
    saved = checkpoint.latest(folder) if args.resume or checkpoint.is_unfinished(folder) else None
    if saved and saved.history and not args.resume:
        raise ValueError(
            f"{folder} holds a run that was broken off: go on with --resume, or remove "
            f"{folder / checkpoint.UNFINISHED} to begin anew"
        )
    saved = saved if args.resume else None
    if FIRST:
        checkpoint.check_ours(folder)
    device = choose_device(flags.get("device", saved.settings.run.device if saved else "auto"))
    flags = flags | {"device": device}
    if saved:
        settings = saved.settings.having(**flags)
        saved.settings.check_same(settings)
    else:
        recipe = recipe_of(args, flags)
        half = (device == "cuda" or bool(recipe)) and has_half(device)
        half = half and flags.get("precision") != "float64"
        settings = Settings.choose({"amp": half} | flags, recipe)
    if settings.run.amp and not has_half(device):
        way_on = "" if saved else ": leave out --amp"
        raise ValueError(f"mixed precision needs a GPU, or a CPU with bfloat16{way_on}")
    with processes(device):
        if args.corpus is not None and "per_length" in flags:
            raise ValueError("per_length means nothing with a corpus")
        if args.resume and not saved:
            log(f"nothing to resume in {folder}: a new run begins")
        if saved and is_over(saved.history, settings.run):
            log(f"the run in {folder} is over already; this is what it said")
        train_model(args, settings, folder, saved)


def recipe_of(args: argparse.Namespace, flags: dict) -> dict:
    """The defaults beside the flags of a run on a corpus, if there is one."""
    task = TASKS[flags.get("task", DEFAULTS["task"])]
    recipe = task.recipe() if args.corpus is not None else {}
    if flags.get("batch_size"):
        recipe.pop("batch_tokens", None)
    return recipe


def train_model(
    args: argparse.Namespace, settings: Settings, folder: Path, saved: Checkpoint | None
) -> None:
    files = args.corpus, args.valid, args.test
    if args.corpus is None and any(files):
        raise ValueError("--valid and --test mean nothing without --corpus")
    corpus = args.corpus and Corpus(*(name and corpus_path(name) for name in files))
    corpus = saved.corpus if saved and corpus is None else corpus
    data, model = prepare(settings, corpus)
    if data.left_out:
        log(f"left out {data.left_out} sentences of more than {settings.task.max_length} tokens")
    sizes = ", ".join(f"{len(part)} {name}" for name, part in data.pairs._asdict().items())
    log(f"pairs: {sizes}; vocabulary: {len(data.vocab)} and {len(data.trg_vocab)} symbols")
    training = Run(model, data, settings, saved, corpus=corpus)
    steps = training.steps * settings.run.epochs
    if steps < 2 * settings.optimizer.warmup:
        size = "--batch-tokens" if settings.run.batch_tokens else "--batch-size"
        log(
            f"warning: {steps} steps are few for a learning rate that rises for "
            f"{settings.optimizer.warmup}: give more --epochs, a smaller {size} or --warmup"
        )
    log_dir = args.log_dir or default_log_dir(folder)
    started = time.perf_counter()
    report = partial(print, flush=True)  # each line when it is known, also in a file or a pipe
    fit(training, folder, log_dir, report, sys.stderr)
    if not (saved and is_over(saved.history, settings.run)):
        log(f"trained in {time.perf_counter() - started:.0f} s")
    if FIRST:
        print(f"checkpoint: {folder / 'best.pt'}")


def corpus_path(name: str) -> str:
    """Where `evaluate` will find the corpus again. Raises ValueError for a pipe."""
    path = Path(name)
    if path.exists() and not (path.is_file() or path.is_dir()):
        raise ValueError(
            f"the corpus {name} can be read only once; evaluate needs it again: make it a file"
        )
    return str(path.resolve())
