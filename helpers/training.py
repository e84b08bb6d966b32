"""Loss, validation, and the one training loop."""

import sys
from collections.abc import Callable
from math import ceil, isfinite
from pathlib import Path
from typing import TextIO

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.optim.lr_scheduler import CosineAnnealingLR
from tqdm import tqdm

from helpers import checkpoint
from helpers.checkpoint import Checkpoint
from helpers.config import Config
from helpers.data import PAD, Pair, Task, batches, collate
from helpers.decoding import decode
from helpers.metrics import exact_match
from helpers.model import Seq2Seq
from helpers.optim import Adam, clip_grad_norm


def set_up(seed: int) -> None:
    """Makes runs repeatable, digit for digit, also on another machine: seeded, in float64 and in
    one thread. On a CPU a second thread gains nothing at these sizes and changes the rounding.
    """
    torch.manual_seed(seed)
    torch.set_default_dtype(torch.float64)
    torch.set_num_threads(1)


def masked_cross_entropy(logits: Tensor, trg_out: Tensor) -> tuple[Tensor, int]:
    """The loss of `logits` (B, T, V) against the ids `trg_out` (B, T), in nats.

    Returns its sum over all real tokens and their number; padding counts in neither. Sums add up
    over batches to the exact mean per token, which a mean of batch means is not.
    """
    total = F.cross_entropy(
        logits.flatten(0, 1), trg_out.flatten(), ignore_index=PAD, reduction="sum"
    )
    return total, int((trg_out != PAD).sum())


GRID = 2**20


@torch.no_grad()
def snap_to_grid(model: Seq2Seq) -> None:
    """Rounds every weight to a multiple of 2^-20, about one millionth.

    Processors differ in the last of the 16 digits of float64, and training amplifies a difference
    until two machines hold two different models. Rounding after each step removes it while it is
    still far smaller than the grid, so that in practice the weights stay equal to the last bit.
    The learning rate must stay well above the grid.
    """
    for weight in model.parameters():
        weight.mul_(GRID).round_().div_(GRID)


@torch.no_grad()
def mean_loss(model: Seq2Seq, pairs: list[Pair], batch_size: int = 500) -> float:
    """The loss per target token, in nats, with teacher forcing, over all of `pairs`."""
    total = tokens = 0
    by_length = sorted(pairs, key=lambda pair: len(pair[0]))
    for start in range(0, len(pairs), batch_size):
        batch = collate(by_length[start : start + batch_size])
        logits, _ = model(batch.src, batch.src_lens, batch.trg_in)
        loss, count = masked_cross_entropy(logits, batch.trg_out)
        total, tokens = total + loss.item(), tokens + count
    return total / tokens


def greedy_exact_match(model: Seq2Seq, pairs: list[Pair], batch_size: int = 500) -> float:
    """The share of pairs whose target the model writes without a fault, in [0, 1]."""
    answers = decode(model, [src for src, _ in pairs], batch_size)
    return exact_match([answer.ids for answer in answers], [trg for _, trg in pairs])


def train(
    model: Seq2Seq,
    task: Task,
    config: Config,
    path: Path | None = None,
    bucket: bool = True,
    report: Callable[[str], None] = print,
    progress: TextIO | None = None,
    on_epoch: Callable[[int], None] | None = None,
) -> list[dict]:
    """Trains `model` on `task` with teacher forcing; `report` is given one line an epoch. While
    an epoch runs, a bar that vanishes at its end is drawn on `progress`, by default on stdout.

    The model of the epoch with the lowest validation loss becomes the checkpoint `path` once the
    last epoch is over. Until then it waits in a file beside it, so that a run that is broken off
    destroys no older checkpoint. `on_epoch(epoch)` is called before the first epoch, as epoch 0,
    and after each. Returns the history: for each epoch a dictionary of what was reported.

    Raises FloatingPointError as soon as the loss is no longer a finite number.
    """
    optimizer = Adam(model.parameters(), lr=config.lr, betas=(0.9, config.beta2))
    steps = ceil(len(task.pairs.train) / config.batch_size)
    schedule = CosineAnnealingLR(optimizer, config.epochs * steps, eta_min=0.02 * config.lr)
    waiting = path and Path(f"{path}.unfinished")
    history: list[dict] = []
    if on_epoch:
        on_epoch(0)
    for epoch in range(1, config.epochs + 1):
        total = tokens = 0
        epoch_batches = batches(task.pairs.train, config.batch_size, config.seed, epoch, bucket)
        bar = {"total": steps, "leave": False, "ncols": 70, "file": progress or sys.stdout}
        for batch in tqdm(epoch_batches, f"epoch {epoch}/{config.epochs}", **bar):
            logits, _ = model(batch.src, batch.src_lens, batch.trg_in)
            loss, count = masked_cross_entropy(logits, batch.trg_out)
            if not isfinite(loss.item()):
                raise FloatingPointError(f"loss {loss.item()} in epoch {epoch}: try a smaller lr")
            optimizer.zero_grad()
            (loss / count).backward()
            clip_grad_norm(model.parameters(), config.max_norm)
            optimizer.step()
            snap_to_grid(model)
            schedule.step()
            total, tokens = total + loss.item(), tokens + count
        record = {
            "epoch": epoch,
            "train loss": total / tokens,
            "valid loss": mean_loss(model, task.pairs.valid),
            "valid exact match": greedy_exact_match(model, task.pairs.valid),
        }
        if not isfinite(record["valid loss"]):
            raise FloatingPointError(f"validation loss {record['valid loss']} in epoch {epoch}")
        best = all(record["valid loss"] < earlier["valid loss"] for earlier in history)
        history.append(record)
        if waiting and best:
            best_so_far = (model, task.vocab, config, history, task.corpus, task.digest())
            checkpoint.save(waiting, Checkpoint(*best_so_far))
        report(
            f"epoch {epoch:2}/{config.epochs}"
            f"   train loss {record['train loss']:.6f}   valid loss {record['valid loss']:.6f}"
            f"   valid exact match {record['valid exact match']:7.2%}{'   best' if best else ''}"
        )
        if on_epoch:
            on_epoch(epoch)
    if waiting:
        waiting.replace(path)
    return history
