"""Checkpoints: a trained model in one file, with all that is needed to use it or to train on.

While a run lasts, its files lie in the folder `unfinished` inside the folder of the run: `last.pt`
and `epoch-NNN.pt` of the last epochs, and `best.pt`. Once it is over, they move up and replace
those of an earlier run, which until then stay as they are.
"""

import hashlib
import io
import os
import shutil
import warnings
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import torch
from filelock import FileLock, Timeout
from torch import nn

from helpers.data import TaskData, Vocab
from helpers.runs.settings import Settings

FORMAT = "seq2seq 4"
UNFINISHED = "unfinished"
NEW, OLD = f"{UNFINISHED}.new", f"{UNFINISHED}.old"  # for a moment, when a run begins
KEPT = 3  # epoch-NNN.pt files; older ones are removed


class Checkpoint(NamedTuple):
    """What a file holds."""

    model: nn.Module
    vocab: Vocab  # of the source
    trg_vocab: Vocab  # of the target
    settings: Settings
    history: list[dict]  # what was reported of each epoch, up to the one saved here
    corpus: str | None  # the text file trained on; None is data that we generate
    digest: str  # of the data, see `digest`
    learner: dict  # moments, schedule, scaler and random numbers: what training on needs


def digest(data: TaskData) -> str:
    """A fingerprint of the sentences: the same text and splits, the same digest."""
    return hashlib.sha256(repr((data.sentences, data.references)).encode()).hexdigest()


def save(checkpoint: Checkpoint, *paths: Path) -> None:
    """Writes a checkpoint to each of `paths`, where it appears whole or not at all.

    Raises OSError if it cannot be written; an older file is then still there.
    """
    content = {
        "format": FORMAT,
        "settings": checkpoint.settings.flat(),
        "vocabs": [
            (vocab.words, vocab.exact) for vocab in (checkpoint.vocab, checkpoint.trg_vocab)
        ],
        "history": checkpoint.history,
        "corpus": checkpoint.corpus,
        "digest": checkpoint.digest,
        "parameters": checkpoint.model.state_dict(),
        "learner": checkpoint.learner,
    }
    buffer = io.BytesIO()
    torch.save(content, buffer)
    for path in paths:
        write(path, buffer.getvalue())


def write(path: Path, data: bytes) -> None:
    """Replaces a file in one step: written beside it, forced to the disk, then renamed."""
    beside = path.with_name(path.name + ".tmp")
    try:
        with open(beside, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
        sync(path.parent)
    except OSError as error:
        beside.unlink(missing_ok=True)
        raise OSError(error.errno, error.strerror, str(path)) from None


def sync(folder: Path) -> None:
    """Makes sure that names given in a folder outlive a power cut."""
    handle = os.open(folder, os.O_RDONLY)
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
        raise FileNotFoundError(f"no checkpoint at {path}: make one with `python -m helpers train`")
    data = io.BytesIO(Path(path).read_bytes())
    try:
        if zipfile.ZipFile(data).testzip():  # torch itself does not compare the checksums
            raise ValueError
        data.seek(0)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's advice about foreign files
            content = torch.load(data, weights_only=True, map_location="cpu")
        if content["format"] != FORMAT:
            raise ValueError
        given = {name: value for name, value in content["settings"].items() if value is not None}
        settings, vocabs = Settings.of(**given), [Vocab(*vocab) for vocab in content["vocabs"]]
        model = settings.model.build(*map(len, vocabs)).to(settings.run.dtype).eval()
        model.load_state_dict(content["parameters"])
        rest = (content[name] for name in ("history", "corpus", "digest", "learner"))
        return Checkpoint(model, *vocabs, settings, *rest)
    except MemoryError:
        raise
    except Exception:  # there are as many ways for a broken file to fail as there are files
        raise ValueError(
            f"{path} is damaged, or no checkpoint of this version of `train`"
        ) from None


def is_unfinished(folder: Path) -> bool:
    """Whether there is a run in `folder` that was broken off."""
    return (folder / UNFINISHED / "last.pt").exists()


@contextmanager
def claim(folder: Path) -> Iterator[None]:
    """While it lasts, no other process can claim `folder`; when this one ends, in whatever way, its
    claim ends, too. The folder is made if there is none. Raises ValueError if it is taken.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / ".lock", timeout=0, is_singleton=True)  # ours twice is no conflict
    try:
        with lock:
            yield
    except Timeout:
        raise ValueError(
            f"another process is training in {folder}: wait, or choose another"
        ) from None


def start(folder: Path, checkpoint: Checkpoint) -> None:
    """Begins a new run with the state before its first step. What a run that was broken off has
    left there is removed.
    """
    clear(folder, NEW, OLD)
    (folder / NEW).mkdir(parents=True)
    save(checkpoint, folder / NEW / "last.pt")
    if (folder / UNFINISHED).exists():
        os.replace(folder / UNFINISHED, folder / OLD)
    os.replace(folder / NEW, folder / UNFINISHED)
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
                os.replace(folder / UNFINISHED / name, folder / name)
        sync(folder)
    clear(folder, UNFINISHED, NEW, OLD)


def clear(folder: Path, *names: str) -> None:
    """Removes folders inside `folder`, where they exist."""
    for name in names:
        shutil.rmtree(folder / name, ignore_errors=True)


def epoch_names(epoch: int) -> list[str]:
    """The files of the last `KEPT` epochs after `epoch`."""
    return [f"epoch-{i:03}.pt" for i in range(max(1, epoch - KEPT + 1), epoch + 1)]


def remove_epochs(folder: Path, epoch: int) -> None:
    """Removes the files of all epochs but the last `KEPT` ones after `epoch`."""
    for path in folder.glob("epoch-[0-9][0-9][0-9]*.pt"):
        if path.name not in epoch_names(epoch):
            path.unlink(missing_ok=True)


def latest(folder: Path) -> Checkpoint | None:
    """Where the run in `folder` stands, whether it is over or was broken off; None without one.
    Raises ValueError for a file that is damaged.
    """
    path = folder / UNFINISHED / "last.pt" if is_unfinished(folder) else folder / "last.pt"
    try:
        return load(path) if path.exists() else None
    except ValueError as error:
        older = sorted(path.parent.glob("epoch-*.pt"))
        way_on = f", or put {older[-1].name} in its place" if older else ""
        raise ValueError(f"{error}; remove it to begin anew{way_on}") from None
