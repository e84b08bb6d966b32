"""A step of learning with all that practice asks for: a schedule, half precision, batches in parts
and in several processes, softer targets, own words, a teacher. Its plain form is `train_step`.
"""

from math import isfinite
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import CosineAnnealingLR, LinearLR, ReduceLROnPlateau, SequentialLR

from helpers.data import PAD, Batch
from helpers.optim import clip_grad_norm
from helpers.runs.device import add_up, rank, share_gradients, world_size
from helpers.runs.fused import Fused
from helpers.runs.losses import smoothed_cross_entropy, soft_cross_entropy
from helpers.runs.sampling import OwnWords
from helpers.runs.settings import Settings
from helpers.training import snap_to_grid

SMALLEST_SCALE = 2**-20  # of the loss in mixed precision; it gets there if no gradient is finite


class Step(NamedTuple):
    """What one training step was like. Of a step on a GPU, loss and norm are tensors there, until
    they are `read`: to ask for a number is to wait until all steps before are done.
    """

    loss: float | Tensor  # summed over the batch, in nats
    tokens: int  # in the target of the batch; 0 if the loss overflowed, and the step was left out
    norm: float | Tensor  # of the gradient, before clipping
    max_norm: float  # after clipping, at most
    lr: float  # learning rate

    @property
    def clipped(self) -> float:
        """The norm of the gradient after clipping."""
        return min(self.norm, self.max_norm)


def read(steps: list[Step]) -> list[Step]:
    """The same steps, with numbers for tensors; the CPU waits once for all of them."""
    if not isinstance(steps[0].norm, Tensor):
        return steps
    pairs = torch.stack([torch.stack([step.loss, step.norm]) for step in steps]).tolist()
    both = zip(steps, pairs, strict=True)
    return [step._replace(loss=loss, norm=norm) for step, (loss, norm) in both]


class Learner:
    """A model with all that is needed to change its parameters: an optimizer, a schedule for the
    learning rate, and a scaler, which with `amp` keeps small gradients from vanishing in half
    precision. With a `teacher`, half of the loss is the cross-entropy with what that model thinks
    likely. `forcing` is the share of previous words that are the true ones, to be set for each
    epoch.
    """

    def __init__(
        self, model: nn.Module, settings: Settings, steps: int, teacher: nn.Module | None = None
    ):
        """`steps` is the number of training steps that the learning rate has to fall. Raises
        ValueError for dropout in parts of a batch, which would each draw masks of their own.
        """
        run, optimizer = settings.run, settings.optimizer
        if settings.model.dropout and run.accumulate * world_size() > 1:
            raise ValueError("dropout needs whole batches: accumulate 1 and a single process")
        self.model, self.run = model.to(run.device), run
        self.max_norm, self.forcing = optimizer.max_norm, run.forcing_in(1)
        self.teacher = teacher.to(run.device).eval() if teacher else None
        self.own_words = run.teacher_forcing < 1 or run.teacher_forcing_end is not None
        self.forward = OwnWords(model) if self.own_words else settings.model.in_training(model)
        self.optimizer = optimizer.build(model.parameters())
        self.optimizer.register_step_post_hook(self.moved)
        # bfloat16 needs no scale, but layers of cells on a GPU are computed in float16 even then;
        # on a CPU it has one, so that all of this can be tried there
        halves = torch.get_autocast_dtype("cuda") == torch.float16 or has_cells(model)
        needs_scale = run.device == "cpu" or halves
        self.scaler = torch.amp.GradScaler(run.device, enabled=run.amp and needs_scale)
        # numbers, or what will be these: several processes have to exchange them at once
        self.in_numbers = run.device == "cpu" or world_size() > 1
        self.number = Tensor.item if self.in_numbers else Tensor.double
        floor, self.on_plateau = optimizer.lr_floor * optimizer.lr, optimizer.schedule == "plateau"
        if self.on_plateau:  # until the validation loss has not fallen for some epochs
            factor, patience = optimizer.plateau_factor, optimizer.plateau_patience
            self.schedule = ReduceLROnPlateau(self.optimizer, "min", factor, patience, min_lr=floor)
        else:  # half a cosine (Loshchilov and Hutter 2017)
            rise = min(optimizer.warmup, steps - 1)
            self.schedule = CosineAnnealingLR(self.optimizer, steps - rise, eta_min=floor)
            if rise:  # on a line from almost 0
                line = LinearLR(self.optimizer, 1 / (rise + 1), total_iters=rise)
                both = [line, self.schedule]
                self.schedule = SequentialLR(self.optimizer, both, milestones=[rise])

    def step(self, batch: Batch) -> Step:
        """One training step. Raises FloatingPointError if the loss has no scale at which half
        precision can hold its gradient.
        """
        lr, self.has_moved = self.optimizer.param_groups[0]["lr"], False
        self.model.train()  # which turns dropout on
        loss, tokens = self.backward(batch)
        self.model.eval()
        self.scaler.unscale_(self.optimizer)  # clipping needs the gradient itself
        norm = self.number(clip_grad_norm(self.model.parameters(), self.max_norm))
        self.scaler.step(self.optimizer)  # leaves all as it is if the gradient overflowed
        if self.has_moved:
            snap_to_grid(self.model)
            if not self.on_plateau:
                self.schedule.step()
        elif self.scaler.get_scale() < SMALLEST_SCALE:
            raise FloatingPointError("the gradient overflows")
        elif not isfinite(loss):  # it was half precision
            loss, tokens = self.number(torch.zeros((), device=self.run.device)), 0
        self.scaler.update()  # lowers the scale after an overflow
        return Step(loss, tokens, norm, self.max_norm, lr)

    def moved(self, *_) -> None:
        """Notes down that a step was not left out; the optimizer calls this after each."""
        self.has_moved = True

    def backward(self, batch: Batch) -> tuple[float | Tensor, int]:
        """Leaves the (scaled) gradient of the mean loss per token in the parameters; returns the
        summed loss, in nats, and the number of tokens.

        The batch is cut into parts, `accumulate` for each process. The loss of a part is divided by
        the tokens of the whole batch: so the gradients of the parts, in all processes, add up to
        that of the batch.
        """
        device = self.run.device
        parts, tokens = self.run.accumulate * world_size(), int((batch.trg_out != PAD).sum())
        forced = torch.rand(batch.trg_in.shape) < self.forcing if self.own_words else None
        total = 0.0
        self.optimizer.zero_grad()
        if device == "cuda":  # the longest source first, so that it need not sort them
            order = batch.src_lens.argsort(descending=True)
            batch = Batch(*(rows[order] for rows in batch))
            forced = None if forced is None else forced[order]
        for i in range(rank(), parts, world_size()):
            part, rows = part_of(batch, i, parts), rows_of(i, parts, len(batch.src))
            words = [] if forced is None else [forced[rows]]
            if device == "cuda":  # it takes what is in pinned memory without being waited for
                part, words = Batch(*map(Tensor.pin_memory, part)), [*map(Tensor.pin_memory, words)]
            part, words = part.to(device), [w.to(device, non_blocking=True) for w in words]
            with torch.autocast(device, enabled=self.run.amp):
                loss = self.loss(part, *words)
            self.scaler.scale(loss / tokens).backward()
            total += self.number(loss.detach())
        share_gradients(self.model)
        return add_up(total)[0], tokens

    def loss(self, batch: Batch, *forced: Tensor) -> Tensor:
        """The loss of a batch, summed, with all that was asked for; where `forced` (B, T) is given
        and False, a step reads the model's own word.
        """
        inputs, smoothing = (batch.src, batch.src_lens, batch.trg_in), self.run.label_smoothing
        if isinstance(self.forward, Fused) and not self.teacher:
            loss = self.forward.loss(batch, smoothing)
            if loss is not None:
                return loss
        logits, _ = self.forward(*inputs, *forced)
        loss = smoothed_cross_entropy(logits, batch.trg_out, smoothing)
        if self.teacher:
            with torch.no_grad():
                likely, _ = self.teacher(*inputs)
            loss = (loss + soft_cross_entropy(logits, likely, batch.trg_out)) / 2
        return loss

    def end_epoch(self, valid_loss: float) -> None:
        """Lets a schedule that waits for a plateau know how the epoch went."""
        if self.on_plateau:
            self.schedule.step(valid_loss)

    def state_dict(self) -> dict:
        """All that training on needs besides the parameters, the random numbers included."""
        return {
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "scaler": self.scaler.state_dict(),
            "taught": self.teacher is not None,
            "random": torch.get_rng_state(),
            "random cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else [],
        }

    def load_state_dict(self, state: dict) -> None:
        """Takes over the state of another learner of the same model and settings.

        Raises ValueError if only one of the two has a teacher.
        """
        if state["taught"] != (self.teacher is not None):
            raise ValueError(f"the run had {'a' if state['taught'] else 'no'} teacher")
        self.optimizer.load_state_dict(state["optimizer"])
        self.schedule.load_state_dict(state["schedule"])
        if state["scaler"]:  # else the steps before needed none
            self.scaler.load_state_dict(state["scaler"])
        torch.set_rng_state(state["random"])
        torch.cuda.set_rng_state_all(state["random cuda"])


def has_cells(model: nn.Module) -> bool:
    """Whether torch computes some layers of the model by a GPU's own library for recurrent ones,
    which mixed precision gives float16, whatever it gives the others.
    """
    return any(isinstance(module, nn.RNNBase) for module in model.modules())


def rows_of(i: int, parts: int, size: int) -> slice:
    """The rows of part i of a batch of `size`: each `parts`-th from the i-th on, or, where there is
    none, the first.
    """
    return slice(i, None, parts) if i < size else slice(1)


def part_of(batch: Batch, i: int, parts: int) -> Batch:
    """Each `parts`-th pair from the i-th on, padded as before. A part without a pair is given one
    whose target is only padding, which adds nothing to loss and gradient.
    """
    part = Batch(*(rows[rows_of(i, parts, len(batch.src))] for rows in batch))
    if i >= len(batch.src):
        part = part._replace(trg_out=torch.full_like(part.trg_out, PAD))
    return part
