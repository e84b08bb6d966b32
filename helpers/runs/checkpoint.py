"""Checkpoints: a trained model in one file, with all that is needed to use it or to train on.

While a run lasts, its files lie in the folder `unfinished` inside the folder of the run: `last.pt`
and `epoch-NNN.pt` of the last epochs, and `best.pt`. Once it is over, they move up and replace
those of an earlier run, which until then stay as they are.
"""

import hashlib
import io
import os
import re
import warnings
import zipfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from time import sleep
from typing import NamedTuple

import torch
from filelock import FileLock, Timeout
from torch import nn

from helpers.data import TaskData, Vocab
from helpers.runs.device import is_out_of_memory
from helpers.runs.settings import Settings
from helpers.tasks.subwords import Subwords
from helpers.tasks.task import Corpus

FORMAT = "seq2seq 6"
UNFINISHED = "unfinished"
NEW, OLD = f"{UNFINISHED}.new", f"{UNFINISHED}.old"  # for a moment, when a run begins
KEPT = 3  # epoch-NNN.pt files; older ones are removed
TMP = ".tmp"  # after the name of a file that is being written
OURS = re.compile(r"(best|last|epoch-\d{3,})\.pt")  # the names that a run gives to its files


class Checkpoint(NamedTuple):
    """What a file holds."""

    model: nn.Module
    vocab: Vocab  # of the source
    trg_vocab: Vocab  # of the target
    settings: Settings
    history: list[dict]  # what was reported of each epoch, up to the one saved here
    corpus: Corpus | None  # the files trained on; None is data that we generate
    digest: str  # of the data, see `digest`
    learner: dict  # moments, schedule, scaler and random numbers: what training on needs


def digest(data: TaskData) -> str:
    """A fingerprint of the sentences: the same text and splits, the same digest."""
    texts = (data.texts,) if data.texts else ()
    return hashlib.sha256(repr((data.sentences, data.references, *texts)).encode()).hexdigest()


def save(checkpoint: Checkpoint, *paths: Path) -> None:
    """Writes a checkpoint to each of `paths`, where it appears whole or not at all.

    Raises OSError if it cannot be written; an older file is then still there.
    """
    content = {
        "format": FORMAT,
        "settings": checkpoint.settings.flat(),
        "vocabs": [
            vocab.model if isinstance(vocab, Subwords) else (vocab.words, vocab.exact)
            for vocab in (checkpoint.vocab, checkpoint.trg_vocab)
        ],
        "history": checkpoint.history,
        "corpus": checkpoint.corpus and tuple(checkpoint.corpus),
        "digest": checkpoint.digest,
        "parameters": checkpoint.model.state_dict(),
        "longest": checkpoint.model.longest,
        "learner": checkpoint.learner,
    }
    buffer = io.BytesIO()
    torch.save(content, buffer)
    for path in paths:
        write(path, buffer.getvalue())


def write(path: Path, data: bytes) -> None:
    """Replaces a file in one step: written beside it, forced to the disk, then renamed."""
    beside = path.with_name(path.name + TMP)
    try:
        with open(beside, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        replace(beside, path)
        sync(path.parent)
    except OSError as error:
        beside.unlink(missing_ok=True)
        raise OSError(error.errno, error.strerror, str(path)) from None


def replace(path: Path, target: Path) -> None:
    """Gives a file or folder another name, in the place of what had it. Windows refuses that as
    long as somebody, a virus scanner perhaps, has it open: then it is tried again for two seconds.
    """
    for pause in (0.1, 0.3, 0.6, 1.0):
        with suppress(PermissionError):
            return os.replace(path, target)
        sleep(pause)
    os.replace(path, target)


def sync(folder: Path) -> None:
    """Makes sure that names given in a folder outlive a power cut, where the system can do that:
    Windows does not open folders.
    """
    try:
        handle = os.open(folder, os.O_RDONLY)
    except PermissionError:
        return
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def load(path: Path) -> Checkpoint:
    """Reads a checkpoint, without running any code that it may contain.

    Raises OSError if there is no such file, and ValueError for one that is damaged or not a
    checkpoint of ours.
    """
    if Path(path).is_dir():
        raise IsADirectoryError(f"{path} is a folder: name a file in it, such as best.pt")
    if not Path(path).is_file():
        raise FileNotFoundError(f"no checkpoint at {path}: `python -m helpers train` makes one")
    data = Path(path).read_bytes()
    try:
        content = read(data)
        if content["format"] != FORMAT:
            raise ValueError
        given = {name: value for name, value in content["settings"].items() if value is not None}
        settings = Settings.of(**given)
        vocabs = [
            Subwords(vocab) if isinstance(vocab, bytes) else Vocab(*vocab)
            for vocab in content["vocabs"]
        ]
        model = settings.model.build(*map(len, vocabs)).to(settings.run.dtype).eval()
        model.load_state_dict(content["parameters"])
        model.longest = content["longest"]
        corpus = content["corpus"] and Corpus(*content["corpus"])
        rest = content["history"], corpus, content["digest"], content["learner"]
        return Checkpoint(model, *vocabs, settings, *rest)
    except Exception as error:  # broken files fail in as many ways as there are files
        if is_out_of_memory(error):
            raise
        raise ValueError(
            f"{path} is damaged, or no checkpoint of this version of `train`"
        ) from None


def read(data: bytes) -> dict:
    """The content of a file that `torch.save` wrote, whole, and without code. Raises whatever comes
    of other bytes.
    """
    if zipfile.ZipFile(io.BytesIO(data)).testzip():  # torch itself does not compare the checksums
        raise ValueError
    with warnings.catch_warnings(action="ignore"):  # torch's advice about foreign files
        return torch.load(io.BytesIO(data), weights_only=True, map_location="cpu")


def is_ours(path: Path) -> bool:
    """Whether a file has been written by a run, of this version or another."""
    if path.is_symlink() or not path.is_file():
        return False
    try:
        return str(read(path.read_bytes())["format"]).startswith(FORMAT.split()[0])
    except Exception as error:  # as in `load`
        if is_out_of_memory(error):
            raise
        return False


def is_part_of_ours(path: Path) -> bool:
    """Whether a file is what a save has left that was broken off: its beginning, or nothing."""
    if path.is_symlink() or not path.is_file() or path.suffix != TMP:
        return False
    with open(path, "rb") as file:
        return bool(OURS.fullmatch(path.stem)) and file.read(2) in (b"", b"P", b"PK")


def check_ours(folder: Path) -> None:
    """Raises ValueError, with its name, if there is a file that no run has written and that a run
    in `folder` would replace or remove.
    """
    paths = [path for path in folder.glob("*") if OURS.fullmatch(path.name)]
    for place in (folder / name for name in (UNFINISHED, NEW, OLD) if (folder / name).exists()):
        inside = place.is_dir() and not place.is_symlink()
        paths += place.glob("*") if inside else [place]
    for path in sorted(paths):
        if not (OURS.fullmatch(path.name) and is_ours(path)) and not is_part_of_ours(path):
            raise ValueError(
                f"{path} is in the way, no file of `train`: move it, or choose another folder"
            )


def is_unfinished(folder: Path) -> bool:
    """Whether there is a run in `folder` that was broken off."""
    return (folder / UNFINISHED / "last.pt").exists()


@contextmanager
def claim(*folders: Path | None) -> Iterator[None]:
    """While it lasts, no other process can claim one of the `folders`; when this one ends, in
    whatever way, its claim ends, too. They are made if there are none. Raises ValueError if one is
    taken.
    """
    with ExitStack() as claims:
        for folder in filter(None, folders):
            folder.mkdir(parents=True, exist_ok=True)
            path = folder / ".lock"
            if path.exists() and path.stat().st_size:  # it would be emptied
                raise ValueError(f"{path} is in the way, no file of `train`: move it")
            try:  # ours twice is no conflict
                claims.enter_context(FileLock(path, timeout=0, is_singleton=True))
            except Timeout:
                raise ValueError(
                    f"another process is training in {folder}: wait, or choose another"
                ) from None
        yield


def start(folder: Path, checkpoint: Checkpoint) -> None:
    """Begins a new run with the state before its first step. What a run that was broken off has
    left there is removed.
    """
    clear(folder, NEW, OLD)
    (folder / NEW).mkdir(parents=True)
    save(checkpoint, folder / NEW / "last.pt")
    if (folder / UNFINISHED).exists():
        replace(folder / UNFINISHED, folder / OLD)
    replace(folder / NEW, folder / UNFINISHED)
    sync(folder)
    clear(folder, OLD)


def keep(folder: Path, checkpoint: Checkpoint, best: bool) -> None:
    """Adds an epoch to the run in `folder`.

    `last.pt`, from which a run goes on, is written last: an epoch whose files were not all written
    is trained once more.
    """
    unfinished, epoch = folder / UNFINISHED, len(checkpoint.history)
    names = [epoch_names(epoch)[-1], *(["best.pt"] if best else []), "last.pt"]
    save(checkpoint, *(unfinished / name for name in names))
    remove_epochs(unfinished, epoch)


def finish(folder: Path, epoch: int) -> None:
    """Moves the files of a run that ended with `epoch` up to `folder`, `last.pt` as the last: if
    this is broken off, the run can still be resumed, and the rest is done then.
    """
    if is_unfinished(folder):
        remove_epochs(folder, epoch)
        for name in ("best.pt", *epoch_names(epoch), "last.pt"):
            if (folder / UNFINISHED / name).exists():
                replace(folder / UNFINISHED / name, folder / name)
        sync(folder)
    clear(folder, UNFINISHED, NEW, OLD)


def clear(folder: Path, *names: str) -> None:
    """Removes folders inside `folder`, where they exist, with the files of a run that they hold."""
    for place in (folder / name for name in names if (folder / name).is_dir()):
        for path in place.iterdir():
            if OURS.fullmatch(path.name.removesuffix(TMP)):
                path.unlink(missing_ok=True)
        with suppress(OSError):  # something else is in it
            place.rmdir()


def epoch_names(epoch: int) -> list[str]:
    """The files of the last `KEPT` epochs after `epoch`."""
    return [f"epoch-{i:03}.pt" for i in range(max(1, epoch - KEPT + 1), epoch + 1)]


def epoch_of(name: str) -> int:
    """The number in the name of the file of an epoch."""
    return int(name.removeprefix("epoch-").removesuffix(".pt"))


def remove_epochs(folder: Path, epoch: int) -> None:
    """Removes the files of all epochs but the last `KEPT` ones after `epoch`."""
    for path in folder.glob("epoch-*.pt"):
        if OURS.fullmatch(path.name) and path.name not in epoch_names(epoch):
            path.unlink(missing_ok=True)


def latest(folder: Path) -> Checkpoint | None:
    """Where the run in `folder` stands, whether it is over or was broken off; None without one.
    Raises ValueError for a file that is damaged.
    """
    path = folder / UNFINISHED / "last.pt" if is_unfinished(folder) else folder / "last.pt"
    try:
        return load(path) if path.exists() else None
    except ValueError as error:
        names = [other.name for other in path.parent.glob("epoch-*.pt")]
        newest = max(filter(OURS.fullmatch, names), key=epoch_of, default=None)
        way_on = f", or put {newest} in its place" if newest else ""
        raise ValueError(f"{error}; remove it to begin anew{way_on}") from None
