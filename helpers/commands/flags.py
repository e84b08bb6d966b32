"""What may be typed: for each command a function that adds its flags to a parser, and whose text is
what `--help` says of the command.

Nothing here computes, nor imports what does: torch takes a second. The module of a command, which
does what was asked for, is imported when the line has been understood (see `main`). So are settings
described without torch: what a task, a model or an optimizer does is imported when it is done.
"""

import argparse
from dataclasses import fields
from functools import partial
from pathlib import Path

from helpers.course.flags import Parser, check, grade, handout
from helpers.runs.fields import Group
from helpers.runs.settings import DEFAULTS, KINDS, RunSettings
from helpers.tasks import TASKS

PICTURES = ".png", ".pdf", ".svg"
DEVICES = "auto", *RunSettings.__dataclass_fields__["device"].metadata["options"]


def train(parser: Parser) -> None:
    """Train a model; its best epoch becomes the checkpoint best.pt."""
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


def evaluate(parser: Parser) -> None:
    """Measure a model on its held-out test set, or on the lines of a file; compare it with others
    on the same sentences.
    """
    parser.add_argument(
        "--input",
        type=Path,
        metavar="FILE",
        help="test on this text, one sentence (or english<tab>french) a line",
    )
    add_checkpoint(parser, "words", several=True)


def reverse(parser: Parser) -> None:
    """Reverse sentences: the arguments, or else the lines of standard input, at most 500 at a
    time.
    """
    add_sentences(parser)
    add_checkpoint(parser, "words-location, or else words")
    add_heatmap(parser)


def translate(parser: Parser) -> None:
    """Translate sentences: the arguments, or else the lines of standard input, at most 500 at a
    time.
    """
    add_sentences(parser)
    add_checkpoint(parser, "translate")
    add_heatmap(parser)


def benchmark(parser: Parser) -> None:
    """Measure training, decoding and Adam beside plainer ways, and how a step grows."""
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="(default: cpu)")
    parser.add_argument(
        "--json", type=output_file, metavar="FILE", help="write the values to this file, too"
    )


def seeds(parser: Parser) -> None:
    """Train the model of the assignment, the same without attention, and that for any length from
    several seeds, and count what they reverse without a fault.
    """
    parser.add_argument("--seeds", type=int, default=10, metavar="N", help="1 to N (default: 10)")


COMMANDS = {
    "train": train,
    "evaluate": evaluate,
    "reverse": reverse,
    "translate": translate,
    "benchmark": benchmark,
    "seeds": seeds,
    "handout": handout,
    "check": check,
    "grade": grade,
}


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
        options = {"choices": DEVICES}
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
    if Path(text).is_file():
        raise argparse.ArgumentTypeError(f"must be a folder, not the file {text}")
    return Path(text)


def add_sentences(parser: Parser) -> None:
    parser.add_argument(
        "sentence",
        nargs="*",
        metavar="SENTENCE",
        help="each is one sentence, quoted (reverse: single words together make one)",
    )


def add_checkpoint(parser: Parser, folders: str, several: bool = False) -> None:
    """The flags of a command that uses a checkpoint, or several, by default that in one of the
    `folders`.
    """
    parser.add_argument(
        "--checkpoint",
        type=Path,
        nargs="+" if several else None,
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
    help = "where to compute (default: auto)"
    parser.add_argument("--device", choices=DEVICES, default="auto", help=help)


def add_heatmap(parser: Parser) -> None:
    parser.add_argument(
        "--heatmap",
        type=picture_name,
        metavar="FILE",
        help="draw where the model looks in the first sentence that is not too long: a .png, .pdf"
        " or .svg",
    )


def beam_width(text: str) -> int:
    if not (text.isdecimal() and 1 <= int(text) <= 100):
        raise argparse.ArgumentTypeError(f"must be an integer from 1 to 100, not {text!r}")
    return int(text)


def picture_name(text: str) -> Path:
    path = Path(text)
    if path.suffix.lower() not in PICTURES:
        raise argparse.ArgumentTypeError(f"must end with {' or '.join(PICTURES)}, not {text!r}")
    if not path.parent.is_dir():
        raise argparse.ArgumentTypeError(f"there is no folder {path.parent}")
    return path


def output_file(text: str) -> Path:
    path = Path(text)
    if not path.parent.is_dir() or (path.exists() and not path.is_file()):
        raise argparse.ArgumentTypeError(f"must be a file in an existing folder, not {text!r}")
    return path
