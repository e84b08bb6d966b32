"""A trained model in one file, with all that is needed to use it: config, vocabulary, weights."""

import os
import warnings
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

import torch

from helpers.config import Config
from helpers.data import SPECIALS, Vocab
from helpers.model import Seq2Seq, build_model

FORMAT = "word reversal 1"


class Checkpoint(NamedTuple):
    """What `load` returns."""

    model: Seq2Seq
    vocab: Vocab
    config: Config
    history: list[dict]  # what was reported of each epoch, up to the one saved here
    corpus: str | None  # the text file trained on; None is our own grammar
    digest: str  # of the data, `Task.digest()`


def save(path: Path, checkpoint: Checkpoint) -> None:
    """Writes a checkpoint. The file appears whole or not at all; an older one is replaced.

    Raises OSError if it cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {
        "format": FORMAT,
        "config": asdict(checkpoint.config),
        "words": checkpoint.vocab.words[len(SPECIALS) :],
        "history": checkpoint.history,
        "corpus": checkpoint.corpus,
        "digest": checkpoint.digest,
        "weights": checkpoint.model.state_dict(),
    }
    unfinished = path.with_name(path.name + ".tmp")
    try:
        torch.save(content, unfinished)
    except RuntimeError:  # torch's word for a full disk
        unfinished.unlink(missing_ok=True)
        raise OSError(f"cannot write {path}: is the disk full?") from None
    os.replace(unfinished, path)


def load(path: Path) -> Checkpoint:
    """Reads a checkpoint, without running any code that it may contain.

    Raises OSError if there is no such file, and ValueError for one that is damaged or not a
    checkpoint of ours.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"no checkpoint at {path}: make one with `python -m helpers train`")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's advice about foreign files
            content = torch.load(path, weights_only=True, map_location="cpu")
        if content["format"] != FORMAT:
            raise ValueError
        config, vocab = Config(**content["config"]), Vocab(content["words"])
        weights, history = content["weights"], content["history"]
        model = build_model(config, len(vocab)).to(weights["decoder.output.weight"].dtype)
        model.load_state_dict(weights)
        return Checkpoint(
            model.eval(), vocab, config, history, content["corpus"], content["digest"]
        )
    except OSError:
        raise
    except Exception:  # there are as many ways for a broken file to fail as there are files
        raise ValueError(f"{path} is damaged, or not a checkpoint that `train` wrote") from None
