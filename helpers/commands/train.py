"""`python -m helpers train`"""

import argparse
import sys
import time
from contextlib import nullcontext
from dataclasses import fields
from functools import partial
from pathlib import Path

from helpers.commands.shell import FIRST, Parser, log
from helpers.runs import checkpoint
from helpers.runs.checkpoint import Checkpoint
from helpers.runs.device import choose_device, has_half, processes
from helpers.runs.fields import Group
from helpers.runs.loop import Run, fit, is_over, prepare
from helpers.runs.settings import DEFAULTS, KINDS, RunSettings, Settings
from helpers.tasks import TASKS
from helpers.tasks.task import Corpus

GROUPS = [kind for kinds in KINDS.values() for kind in kinds.values()] + [RunSettings]
NAMES = [*KINDS, *dict.fromkeys(spec.name for group in GROUPS for spec in fields(group))]


def run(args: argparse.Namespace) -> None:
    """Train a model; its best epoch becomes the checkpoint best.pt."""
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


def add_arguments(parser: Parser) -> None:
    for group, kinds in KINDS.items():
        section = parser.add_argument_group(group)
        default = f"(default: {DEFAULTS[group]})"
        section.add_argument(
            f"--{group}", default=argparse.SUPPRESS, choices=list(kinds), help=default
        )
        for name in dict.fromkeys(spec.name for kind in kinds.values() for spec in fields(kind)):
            add_setting(section, name, kinds)
    section = parser.add_argument_group("run")
    for spec in fields(RunSettings):
        add_setting(section, spec.name, {"run": RunSettings})
    section = parser.add_argument_group("files")
    section.add_argument(
        "--corpus",
        metavar="FILE",
        help="train on this text, one sentence (or english<tab>french) a line, not on a grammar",
    )
    for part in ("valid", "test"):
        name = {"valid": "validate", "test": "test"}[part]
        help = f"{name} on this text (default: a part of --corpus)"
        section.add_argument(f"--{part}", metavar="FILE", help=help)
    add_folder = partial(section.add_argument, type=folder_name, metavar="DIR")
    add_folder(
        "--checkpoint-dir", help="for the checkpoints (default: checkpoints/TASK, or TASK-MODEL)"
    )
    add_folder(
        "--log-dir",
        help="for TensorBoard (default: in runs/, as those in checkpoints/; or runs in DIR)",
    )
    section.add_argument(
        "--resume",
        action="store_true",
        help="go on with the run in the checkpoint folder that was broken off, with its settings",
    )


def add_setting(section, name: str, kinds: dict[str, type[Group]]) -> None:
    """A flag for a field that some of the `kinds` of a group have, with what `--help` says of it.
    Only a flag that the user gives appears among the results.
    """
    specs = {kind: spec for kind in kinds for spec in fields(kinds[kind]) if spec.name == name}
    spec, *_ = specs.values()
    usual = {
        "device": "auto",
        "amp": "on a GPU; with a corpus where the CPU has bfloat16",
        "precision": "float64, on a GPU float32",
    }
    defaults = {kind: spec.metadata["default"] for kind, spec in specs.items()}
    default = usual.get(name, spec.metadata["default"])
    if len(set(defaults.values())) > 1:
        default = ", ".join(f"{kind} {value}" for kind, value in defaults.items())
    help = "" if len(specs) == len(kinds) else f"{', '.join(specs)}: "
    help += spec.metadata["help"]
    for other, values in spec.metadata["needs"].items():
        several = (
            f"{values[0]} or more" if isinstance(values, range) else " or ".join(map(str, values))
        )
        help += f", with {other} {several}"
    options = {"type": spec.type, "metavar": "X"}
    if name == "device":
        options = {"choices": ("auto", *spec.metadata["options"])}
    elif name == "amp":
        options = {"action": argparse.BooleanOptionalAction}
    elif "options" in spec.metadata:
        options = {"choices": spec.metadata["options"]}
    for task in TASKS.values():
        if name in task.recipe():
            default = f"{default}; {task.name} with --corpus: {task.recipe()[name]}"
    flag, help = "--" + name.replace("_", "-"), f"{help} (default: {default})"
    section.add_argument(flag, default=argparse.SUPPRESS, help=help, **options)


def folder_name(text: str) -> Path:
    if not text.strip():
        raise argparse.ArgumentTypeError("must not be empty")
    return Path(text)
