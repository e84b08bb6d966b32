"""Adam and gradient clipping by hand; each is equal to torch's own, as tests and notebooks show."""

from collections.abc import Iterable

import torch
from torch import Tensor


class Adam(torch.optim.Optimizer):
    """Adam (Kingma and Ba 2015, algorithm 1), with the defaults of the paper. With `weight_decay`
    it is AdamW: the decay is kept out of the moments (Loshchilov and Hutter 2019, algorithm 2).

    Raises ValueError for a learning rate, eps or decay below 0, or a beta outside [0, 1).
    """

    def __init__(
        self,
        params: Iterable,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ):
        not_negative = all(value >= 0 for value in (lr, eps, weight_decay))
        if not (not_negative and all(0 <= beta < 1 for beta in betas)):
            raise ValueError(
                "need lr, eps and weight_decay >= 0 and betas in [0, 1), "
                f"not {lr}, {eps}, {weight_decay} and {betas}"
            )
        defaults = {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay}
        super().__init__(params, defaults)

    @torch.no_grad()
    def step(self, closure=None):
        """Moves every parameter that has a gradient; one without keeps its value and its moments.

        `closure`, if given, computes the loss anew; its value is returned.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for param in group["params"]:
                if param.grad is not None:
                    self._update(param, param.grad, group)
        return loss

    def _update(self, param: Tensor, grad: Tensor, group: dict) -> None:
        state, (beta1, beta2) = self.state[param], group["betas"]
        if not state:
            state["step"] = 0
            state["mean"] = torch.zeros_like(param)  # m, running mean of the gradient
            state["square"] = torch.zeros_like(param)  # v, running mean of its square
        state["step"] += 1
        mean, square, t = state["mean"], state["square"], state["step"]
        mean.mul_(beta1).add_(grad, alpha=1 - beta1)  # m <- beta1 m + (1 - beta1) g
        square.mul_(beta2).addcmul_(grad, grad, value=1 - beta2)  # v <- beta2 v + (1 - beta2) g^2
        # Both began at zero and are too small by a factor that is known: the bias correction.
        root = square.div(1 - beta2**t).sqrt_().add_(group["eps"])  # sqrt(v_hat) + eps
        param.mul_(1 - group["lr"] * group["weight_decay"])
        param.addcdiv_(mean, root, value=-group["lr"] / (1 - beta1**t))


@torch.no_grad()
def clip_grad_norm(params: Iterable[Tensor], max_norm: float) -> Tensor:
    """Scales all gradients by one factor so that their joint norm is at most `max_norm`.

    Returns the norm before. The direction of the gradient stays what it was (Pascanu, Mikolov and
    Bengio 2013, algorithm 1). As in torch, 1e-6 keeps the factor finite when the norm is 0.
    """
    grads = [param.grad for param in params if param.grad is not None]
    if not grads:
        return torch.tensor(0.0)
    norm = torch.stack([grad.norm() for grad in grads]).norm()
    factor = (max_norm / (norm + 1e-6)).clamp(max=1.0)
    for grad in grads:
        grad.mul_(factor)
    return norm
