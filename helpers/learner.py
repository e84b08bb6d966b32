"""Learning, one batch at a time: the loss, the gradient, and the step that follows from it."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.optim import SGD
from torch.optim.lr_scheduler import CosineAnnealingLR, ReduceLROnPlateau

from helpers.build import Model
from helpers.config import Config
from helpers.data import PAD, Batch, every
from helpers.device import add_up, rank, share_gradients, world_size
from helpers.fused import Fused
from helpers.optim import Adam, clip_grad_norm


def masked_cross_entropy(
    logits: Tensor, trg_out: Tensor, smoothing: float = 0.0
) -> tuple[Tensor, int]:
    """The loss of `logits` (B, T, V) against the ids `trg_out` (B, T), in nats.

    Returns its sum over all real tokens and their number; padding counts in neither. Sums add up
    over batches to the exact mean per token, which a mean of batch means is not. With label
    `smoothing`, that share of each target is spread evenly over the whole vocabulary (Szegedy et
    al. 2016, arXiv:1512.00567, section 7).
    """
    how = {"ignore_index": PAD, "label_smoothing": smoothing, "reduction": "sum"}
    total = F.cross_entropy(logits.flatten(0, 1), trg_out.flatten(), **how)
    return total, int((trg_out != PAD).sum())


def soft_cross_entropy(logits: Tensor, teacher_logits: Tensor, trg_out: Tensor) -> Tensor:
    """The cross-entropy of `logits` (B, T, V) with what a teacher thinks likely, `teacher_logits`,
    instead of the one true word (Hinton, Vinyals and Dean 2015, arXiv:1503.02531): summed over the
    real tokens of `trg_out` (B, T), in nats.
    """
    likely = teacher_logits.softmax(dim=-1)
    per_token = -(likely * logits.log_softmax(dim=-1)).sum(dim=-1)  # (B, T)
    return per_token[trg_out != PAD].sum()


GRID = 2**20


@torch.no_grad()
def snap_to_grid(model: Model) -> None:
    """Rounds every weight in float64 to a multiple of 2^-20, about one millionth.

    Processors differ in the last of the 16 digits of float64, and training amplifies a difference
    until two machines hold two different models. Rounding after each step removes it while it is
    still far smaller than the grid, so that in practice the weights stay equal to the last bit.
    The learning rate must stay well above the grid.
    """
    weights = [weight for weight in model.parameters() if weight.dtype == torch.float64]
    if weights:
        torch._foreach_mul_(weights, GRID)
        torch._foreach_round_(weights)
        torch._foreach_mul_(weights, 1 / GRID)  # exact, as it is a power of two


class Step(NamedTuple):
    """What one training step was like."""

    loss: float  # summed over the batch, in nats
    tokens: int  # in the target of the batch
    norm: float  # of the gradient, before clipping
    clipped: float  # the same, after it
    lr: float  # learning rate
    scale: float  # of the loss in mixed precision, else 1


class Learner:
    """A model with all that is needed to change its weights: Adam, a schedule for the learning
    rate, and a scaler, which with `amp` keeps small gradients from vanishing in half precision.
    With a `teacher`, half of the loss is the cross-entropy with what that model thinks likely.
    """

    def __init__(self, model: Model, config: Config, steps: int, teacher: Model | None = None):
        """`steps` is the number of training steps that the learning rate has to fall. Raises
        ValueError for dropout in parts of a batch, which would each draw masks of their own.
        """
        if config.dropout and config.accumulate * world_size() > 1:
            raise ValueError("dropout needs whole batches: accumulate 1 and a single process")
        self.model, self.config = model.to(config.device), config
        self.teacher = teacher.to(config.device).eval() if teacher else None
        self.forward = share_gradients(Fused(model))
        lr, decay = config.lr, config.weight_decay
        if config.optimizer == "adam":
            betas = (config.beta1, config.beta2)
            self.optimizer = Adam(model.parameters(), lr, betas, config.eps, decay)
        else:
            self.optimizer = SGD(
                model.parameters(), lr, config.beta1, weight_decay=decay, foreach=True
            )
        self.scaler = torch.amp.GradScaler(config.device, enabled=config.amp)
        floor = config.lr_floor * config.lr
        if config.schedule == "cosine":  # half a cosine (Loshchilov and Hutter 2017)
            self.schedule = CosineAnnealingLR(self.optimizer, steps, eta_min=floor)
        else:  # whenever the validation loss has not fallen for some epochs
            factor, patience = config.plateau_factor, config.plateau_patience
            self.schedule = ReduceLROnPlateau(self.optimizer, "min", factor, patience, min_lr=floor)

    def step(self, batch: Batch, forcing: float = 1.0) -> Step:
        """One training step, in which a share `forcing` of the previous words are the true ones."""
        lr, scale = self.optimizer.param_groups[0]["lr"], self.scaler.get_scale()
        loss, tokens = self.backward(batch, forcing)
        self.scaler.unscale_(self.optimizer)  # clipping needs the gradient itself
        norm = clip_grad_norm(self.model.parameters(), self.config.max_norm).item()
        self.scaler.step(self.optimizer)  # leaves all as it is if the gradient overflowed
        self.scaler.update()  # and in that case lowers the scale
        if self.scaler.get_scale() >= scale:
            snap_to_grid(self.model)
            if self.config.schedule == "cosine":
                self.schedule.step()
        return Step(loss, tokens, norm, min(norm, self.config.max_norm), lr, scale)

    def backward(self, batch: Batch, forcing: float = 1.0) -> tuple[float, int]:
        """Leaves the (scaled) gradient of the mean loss per token in the parameters; returns the
        summed loss, in nats, and the number of tokens.

        The batch is cut into parts, `accumulate` for each process. The loss of a part is divided by
        the tokens of the whole batch: so the gradients of the parts add up to that of the batch.
        """
        device, amp = self.config.device, self.config.amp
        parts, tokens, total = self.config.accumulate * world_size(), batch.tokens(), 0.0
        forced = torch.rand(batch.trg_in.shape) < forcing if forcing < 1 else None
        self.optimizer.zero_grad()
        for i in range(rank(), parts, world_size()):
            part = batch.part(i, parts).to(device)
            inputs = [part.src, part.src_lens, part.trg_in]
            words = [] if forced is None else [every(forced, i, parts).to(device)]
            with torch.autocast(device, enabled=amp):
                logits, _ = self.forward(*inputs, *words)
                loss, _ = masked_cross_entropy(logits, part.trg_out, self.config.label_smoothing)
                if self.teacher:
                    with torch.no_grad():
                        likely, _ = self.teacher(*inputs)
                    loss = (loss + soft_cross_entropy(logits, likely, part.trg_out)) / 2
            mean = loss * world_size() / tokens  # of the processes' gradients the mean is taken
            self.scaler.scale(mean).backward()
            total += loss.item()
        return add_up(total)[0], tokens

    def end_epoch(self, valid_loss: float) -> None:
        """Lets a schedule that waits for a plateau know how the epoch went."""
        if self.config.schedule == "plateau":
            self.schedule.step(valid_loss)

    def state_dict(self) -> dict:
        """All that training on needs besides the weights, the random numbers included."""
        return {
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "scaler": self.scaler.state_dict(),
            "taught": self.teacher is not None,
            "random": torch.get_rng_state(),
            "random cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else [],
        }

    def load_state_dict(self, state: dict) -> None:
        """Takes over the state of another learner of the same model and config.

        Raises ValueError if only one of the two has a teacher.
        """
        if state["taught"] != (self.teacher is not None):
            raise ValueError(f"the run had {'a' if state['taught'] else 'no'} teacher")
        self.optimizer.load_state_dict(state["optimizer"])
        self.schedule.load_state_dict(state["schedule"])
        self.scaler.load_state_dict(state["scaler"])
        torch.set_rng_state(state["random"])
        torch.cuda.set_rng_state_all(state["random cuda"])
