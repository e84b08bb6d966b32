"""The one training loop of every task and model: epochs, validation, checkpoints, resuming."""

import io
import sys
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from math import ceil, isfinite
from pathlib import Path
from time import perf_counter
from typing import TextIO

import torch
from tqdm import tqdm

from helpers import checkpoint
from helpers.build import Model, build_model
from helpers.checkpoint import Checkpoint
from helpers.config import Config
from helpers.data import Pair, batches, collate
from helpers.decoding import BATCH_SIZE, decode, decode_by_copying
from helpers.device import add_up, rank, set_up, world_size
from helpers.learner import Learner, masked_cross_entropy
from helpers.location import LocationSeq2Seq
from helpers.logs import Log
from helpers.metrics import matches
from helpers.tasks import Task, load_task

SMALLEST_SCALE = 2**-20  # of the loss in mixed precision; it gets there if no gradient is finite


@torch.no_grad()
def mean_loss(model: Model, pairs: Sequence[Pair], batch_size: int = 500) -> float:
    """The loss per target token, in nats, with teacher forcing, over all of `pairs`.

    If there are several processes, each takes a share. Raises ValueError if there is no pair.
    """
    if not len(pairs):
        raise ValueError("no pairs to measure the loss of")
    total, tokens, device = 0.0, 0, next(model.parameters()).device
    by_length = sorted(pairs[rank() :: world_size()], key=lambda pair: len(pair[0]))
    for start in range(0, len(by_length), batch_size):
        batch = collate(by_length[start : start + batch_size]).to(device)
        logits, _ = model(batch.src, batch.src_lens, batch.trg_in)
        loss, count = masked_cross_entropy(logits, batch.trg_out)
        total, tokens = total + loss.item(), tokens + count
    total, tokens = add_up(total, tokens)
    return total / tokens


def greedy_exact_match(model: Model, pairs: Sequence[Pair], batch_size: int = BATCH_SIZE) -> float:
    """The share of pairs whose target the model writes (or points at) without a fault, in [0, 1].

    If there are several processes, each takes a share. Raises ValueError if there is no pair.
    """
    if not len(pairs):
        raise ValueError("no pairs to compare")
    mine = pairs[rank() :: world_size()]
    sources = [src for src, _ in mine]
    if isinstance(model, LocationSeq2Seq):
        both = zip(sources, decode_by_copying(model, sources), strict=True)
        answers = [[src[place - 1] for place in places] for src, places in both]
    else:
        answers = [answer.ids for answer in decode(model, sources, batch_size)]
    right = sum(matches(answers, [trg for _, trg in mine]))
    right, total = add_up(right, len(mine))
    return right / total


def train(
    model: Model,
    task: Task,
    config: Config,
    folder: Path | None = None,
    saved: Checkpoint | None = None,
    log_dir: Path | None = None,
    bucket: bool = True,
    report: Callable[[str], None] = print,
    progress: TextIO | None = None,
    on_epoch: Callable[[int], None] | None = None,
    teacher: Model | None = None,
) -> list[dict]:
    """Trains `model` on `task`; `report` is given one line an epoch. While an epoch runs, a bar
    that vanishes at its end is drawn on `progress`, by default on stdout.

    With a `folder`, each epoch is saved in it (see `checkpoint`); `best.pt` is the epoch with the
    lowest validation loss. A run that was broken off goes on from `saved`, its `checkpoint.latest`:
    on a CPU to the same weights, history and reported lines as if nothing had happened. With a
    `log_dir`, curves for TensorBoard are written there. `on_epoch(epoch)` is called after each
    epoch, and as epoch 0 before the first. A `teacher` is a trained model whose opinion the loss
    takes into account (see `Learner`).

    Returns the history: for each epoch a dictionary of what was reported. Raises FloatingPointError
    as soon as the loss is no longer a finite number, and ValueError if the run to resume had other
    settings or other data, or if another process is training in `folder`.
    """
    steps = ceil(len(task.pairs.train) / config.batch_size)
    learner = Learner(model.eval(), config, config.epochs * steps, teacher)
    history, digest = list(saved.history if saved else []), task.digest()
    if saved:
        saved.config.check_same(config)
        if saved.digest != digest:
            raise ValueError("the run to resume had other data")
        model.load_state_dict(saved.model.state_dict())
        learner.load_state_dict(saved.learner)
    if rank() > 0:  # only process 0 writes and speaks
        folder, log_dir, report, progress = None, None, lambda line: None, io.StringIO()

    def state() -> Checkpoint:
        data = (task.vocab, task.trg_vocab, config, history, task.corpus, digest)
        return Checkpoint(model, *data, learner.state_dict())

    with checkpoint.claim(folder) if folder else nullcontext():
        log = Log(log_dir, steps * len(history))
        for epoch in range(1, len(history) + 1):
            report(epoch_line(history[:epoch], config))
        if folder and not saved:
            checkpoint.start(folder, state())
        if on_epoch and not saved:
            on_epoch(0)
        while not is_over(history, config):
            epoch = len(history) + 1
            train_loss, lr = train_epoch(learner, task, epoch, bucket, progress, log)
            record = {
                "epoch": epoch,
                "train loss": train_loss,
                "valid loss": mean_loss(model, task.pairs.valid),
                "valid exact match": greedy_exact_match(model, task.pairs.valid),
                "lr": lr,
            }
            if not isfinite(record["valid loss"]):
                raise FloatingPointError(f"validation loss {record['valid loss']} in epoch {epoch}")
            learner.end_epoch(record["valid loss"])
            history.append(record)
            log.epoch(steps * epoch, record, model, task)
            if folder:
                checkpoint.keep(folder, state(), is_best(history))
            report(epoch_line(history, config))
            if on_epoch:
                on_epoch(epoch)
        log.close()
        if len(history) < config.epochs:
            report(f"stopped: the exact match has not risen for {config.patience} epochs")
        if folder:
            checkpoint.finish(folder, len(history))
    return history


def train_apart(config: Config, folder: Path) -> tuple[list[str], float]:
    """Trains the model of `config` from the beginning, without a word: for a process of its own.
    Returns the lines that `train` reports, and the seconds that it took.
    """
    set_up(config.seed, config.device)
    task = load_task(config)
    model = build_model(config, len(task.vocab), len(task.trg_vocab))
    lines, started = [], perf_counter()
    train(model, task, config, folder, report=lines.append, progress=io.StringIO())
    return lines, perf_counter() - started


def train_epoch(
    learner: Learner, task: Task, epoch: int, bucket: bool, progress: TextIO | None, log: Log
) -> tuple[float, float]:
    """One pass over the training data; returns the mean loss per token and the last learning rate.

    Raises FloatingPointError for a loss that is no finite number.
    """
    config, total, tokens = learner.config, 0.0, 0
    forcing = forcing_in(epoch, config)
    steps = ceil(len(task.pairs.train) / config.batch_size)
    epoch_batches = batches(task.pairs.train, config.batch_size, config.seed, epoch, bucket)
    bar = {"total": steps, "leave": False, "ncols": 70, "file": progress or sys.stdout}
    for i, batch in enumerate(tqdm(epoch_batches, f"epoch {epoch}/{config.epochs}", **bar), 1):
        learner.model.train()  # which turns dropout on
        step = learner.step(batch, forcing)
        learner.model.eval()
        if not isfinite(step.loss) or step.scale < SMALLEST_SCALE:
            what = "the gradient overflows" if isfinite(step.loss) else f"loss {step.loss}"
            where = f"epoch {epoch}, batch {i} of {steps}"
            raise FloatingPointError(f"{what} in {where}: try a smaller lr")
        total, tokens = total + step.loss, tokens + step.tokens
        log.step(steps * (epoch - 1) + i, step)
    return total / tokens, step.lr


def forcing_in(epoch: int, config: Config) -> float:
    """The share of true previous words in an epoch: on a line from the first to the last."""
    start, end = config.teacher_forcing, config.teacher_forcing_end
    way = (epoch - 1) / max(1, config.epochs - 1)
    return start if end is None else start + way * (end - start)


def is_best(history: list[dict]) -> bool:
    """Whether the validation loss of the last epoch is the lowest so far."""
    *earlier, last = history
    return all(last["valid loss"] < record["valid loss"] for record in earlier)


def is_over(history: list[dict], config: Config) -> bool:
    """Whether all epochs are done, or the exact match has not risen for `patience` epochs."""
    scores = [record["valid exact match"] for record in history]
    waited = len(scores) - 1 - scores.index(max(scores)) if scores else 0
    return len(history) >= config.epochs or 0 < config.patience <= waited


def epoch_line(history: list[dict], config: Config) -> str:
    """What is reported of the last epoch of `history`."""
    record = history[-1]
    return (
        f"epoch {record['epoch']:2}/{config.epochs}"
        f"   train loss {record['train loss']:.6f}   valid loss {record['valid loss']:.6f}"
        f"   valid exact match {record['valid exact match']:7.2%}"
        f"{'   best' if is_best(history) else ''}"
    )
