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
        defaults = {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay}
        not_negative = all(value >= 0 for value in (lr, eps, weight_decay))
        if not (not_negative and all(0 <= beta < 1 for beta in betas)):
            raise ValueError(f"need betas in [0, 1) and all else from 0 on, not {defaults}")
        super().__init__(params, defaults)

    @torch.no_grad()
    def step(self, closure=None):
        """Moves every parameter that has a gradient; one without keeps its value and its moments.
        `closure`, if given, computes the loss anew; its value is returned.
        """
        with torch.enable_grad():
            loss = None if closure is None else closure()
        for group in self.param_groups:
            params = [param for param in group["params"] if param.grad is not None]
            if params:
                self._update(params, group)
        return loss

    def _update(self, params: list[Tensor], group: dict) -> None:
        """Moves all of `params`; an operation of torch._foreach_ is one on each of a list."""
        states, (beta1, beta2) = [self.state[param] for param in params], group["betas"]
        for param, state in zip(params, states, strict=True):
            if not state:
                state["step"] = 0
                state["mean"] = torch.zeros_like(param)  # m, running mean of the gradient
                state["square"] = torch.zeros_like(param)  # v, running mean of its square
            state["step"] += 1
        grads = [param.grad for param in params]
        means, squares = ([state[name] for state in states] for name in ("mean", "square"))
        steps = [state["step"] for state in states]
        # m <- beta1 m + (1 - beta1) g: a part of the way from m to g
        torch._foreach_lerp_(means, grads, 1 - beta1)
        # v <- beta2 v + (1 - beta2) g^2
        torch._foreach_mul_(squares, beta2)
        torch._foreach_addcmul_(squares, grads, grads, value=1 - beta2)
        if group["weight_decay"]:
            torch._foreach_mul_(params, 1 - group["lr"] * group["weight_decay"])
        # Both means began at zero and are too small by a factor that is known, 1 - beta^t: the bias
        # correction. It is applied to rate and eps, which are numbers, instead of to m and v: fewer
        # operations (section 2 of the paper, before 2.1, where eps is left as it is).
        roots, shares = torch._foreach_sqrt(squares), [(1 - beta2**t) ** 0.5 for t in steps]
        torch._foreach_add_(roots, [group["eps"] * share for share in shares])
        rates = [-group["lr"] * s / (1 - beta1**t) for s, t in zip(shares, steps, strict=True)]
        torch._foreach_addcdiv_(params, means, roots, rates)


@torch.no_grad()
def clip_grad_norm(params: Tensor | Iterable[Tensor], max_norm: float) -> Tensor:
    """Scales all gradients by one factor so that their joint norm is at most `max_norm`.

    Returns the norm before. The direction of the gradient stays what it was (Pascanu, Mikolov and
    Bengio 2013, algorithm 1). As in torch, 1e-6 keeps the factor finite when the norm is 0. Raises
    ValueError unless `max_norm` is above 0.
    """
    if not max_norm > 0:
        raise ValueError(f"max_norm must be above 0, not {max_norm}")
    params = [params] if isinstance(params, Tensor) else params
    grads = [param.grad for param in params if param.grad is not None]
    if not grads:
        return torch.tensor(0.0)
    norm = torch.stack(torch._foreach_norm(grads)).norm()
    torch._foreach_mul_(grads, (max_norm / (norm + 1e-6)).clamp(max=1.0))
    return norm
