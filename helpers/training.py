"""Learning: the loss, one step, and the loop over the epochs."""

from collections.abc import Callable, Iterable, Sequence
from math import isfinite, nan
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import Optimizer

from helpers.data import PAD, Batch, Pair, Vocab, collate
from helpers.optim import clip_grad_norm

Observer = Callable[[list[dict]], object]  # is given the history; True ends the training


def set_up(seed: int = 1, dtype: torch.dtype = torch.float64) -> None:
    """Seeds the random numbers and sets the precision: in float64 a run on a CPU prints the same
    digits everywhere. One thread: a second gains little at these sizes and changes the rounding.
    """
    torch.manual_seed(seed)
    torch.set_default_dtype(dtype)
    torch.set_num_threads(1)


def masked_cross_entropy(logits: Tensor, trg_out: Tensor) -> tuple[Tensor, int]:
    """The loss of `logits` (B, T, V) against the ids `trg_out` (B, T), in nats.

    Returns its sum over all real tokens and their number; padding counts in neither. Sums add up
    over batches to the exact mean per token, which a mean of batch means is not.
    """
    options = {"ignore_index": PAD, "reduction": "sum"}
    total = F.cross_entropy(logits.flatten(0, 1), trg_out.flatten(), **options)
    return total, int((trg_out != PAD).sum())


def train_step(
    model: nn.Module, batch: Batch, optimizer: Optimizer, max_norm: float = 1.0
) -> tuple[float, int]:
    """One step of learning, with teacher forcing and a gradient norm of at most `max_norm`.
    Returns the loss, summed over the batch, in nats, and the number of tokens.
    """
    logits, _ = model(batch.src, batch.src_lens, batch.trg_in)
    loss, tokens = masked_cross_entropy(logits, batch.trg_out)
    optimizer.zero_grad()
    (loss / tokens).backward()
    clip_grad_norm(model.parameters(), max_norm)
    optimizer.step()
    return loss.item(), tokens


GRID = 2**20


@torch.no_grad()
def snap_to_grid(model: nn.Module) -> None:
    """Rounds every parameter in float64 to a multiple of 2^-20, about one millionth.

    Processors differ in the last of the 16 digits of float64, and training amplifies a difference
    until two machines hold two different models. Rounding removes it while it is far smaller than
    the grid, so that in practice parameters stay equal. The learning rate must stay well above it.
    """
    params = [param for param in model.parameters() if param.dtype == torch.float64]
    if params:
        torch._foreach_mul_(params, GRID)
        torch._foreach_round_(params)
        torch._foreach_mul_(params, 1 / GRID)  # exact, as it is a power of two


@torch.no_grad()
def mean_loss(model: nn.Module, pairs: Sequence[Pair], batch_size: int = 500) -> float:
    """The loss per target token, in nats, with teacher forcing. Raises ValueError for no pairs."""
    if not len(pairs):
        raise ValueError("no pairs to measure the loss of")
    total, tokens, device = 0.0, 0, next(model.parameters()).device
    by_length = sorted(pairs, key=lambda pair: len(pair[0]))
    for start in range(0, len(by_length), batch_size):
        batch = collate(by_length[start : start + batch_size]).to(device)
        logits, _ = model(batch.src, batch.src_lens, batch.trg_in)
        loss, count = masked_cross_entropy(logits, batch.trg_out)
        total, tokens = total + loss.item(), tokens + count
    return total / tokens


def train(
    step: Callable[[Batch], tuple],
    epoch_batches: Callable[[int], Iterable[Batch]],
    measure: Callable[[], dict],
    epochs: int,
    observers: Sequence[Observer] = (),
    history: list[dict] | None = None,
) -> list[dict]:
    """Makes a `step` with each batch of each epoch, `epoch_batches(1)` to `epoch_batches(epochs)`.
    A step returns the summed loss and the number of tokens first of all.

    After an epoch, its number, its training loss per token and what `measure` says ("valid loss" at
    least) go to the `history`, which each observer is given then; one that answers True ends the
    training. Epochs that the history has already are not repeated. Returns the history. Raises
    FloatingPointError for a loss that is no finite number.
    """
    history = [] if history is None else history
    for epoch in range(len(history) + 1, epochs + 1):
        total, tokens = 0.0, 0
        for i, batch in enumerate(epoch_batches(epoch), start=1):
            loss, count, *_ = step(batch)
            if not isfinite(loss):
                raise FloatingPointError(f"loss {loss} in epoch {epoch}, batch {i}: try a lower lr")
            total, tokens = total + loss, tokens + count
        record = {"epoch": epoch, "train loss": total / (tokens or nan), **measure()}
        if not isfinite(record["valid loss"]):
            raise FloatingPointError(f"no finite validation loss in epoch {epoch}")
        history.append(record)
        if any([observe(history) is True for observe in observers]):
            break
    return history


def is_best(history: list[dict]) -> bool:
    """Whether the validation loss of the last epoch is the lowest so far."""
    *earlier, last = history
    return all(last["valid loss"] < record["valid loss"] for record in earlier)


def epoch_line(history: list[dict]) -> str:
    """What is printed of the last epoch of `history`."""
    shown = "epoch {epoch:2}   train loss {train loss:.6f}   valid loss {valid loss:.6f}   "
    shown += "valid exact match {valid exact match:7.2%}" + is_best(history) * "   best"
    return shown.format(**history[-1])


def save_best(model: nn.Module, vocab: Vocab, path: Path) -> Observer:
    """An observer that saves model, vocabulary and history when the model is the best so far."""

    def observe(history: list[dict]) -> None:
        if is_best(history):
            path.parent.mkdir(parents=True, exist_ok=True)
            content = {"parameters": model.state_dict(), "words": vocab.words, "history": history}
            torch.save(content, path)

    return observe
