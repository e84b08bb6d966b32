"""Adam and clipping: equal to torch's own, and at home among schedulers and scalers."""

import copy

import pytest
import torch

from helpers.optim import Adam, clip_grad_norm
from helpers.tests.tiny import largest_difference
from helpers.training import set_up


@pytest.fixture(autouse=True)
def repeatable():
    set_up(seed=0)


def make_params():
    return [torch.randn(shape, requires_grad=True) for shape in [(3,), (4, 5), ()]]


def twins(params):
    return [param.detach().clone().requires_grad_() for param in params]


def set_random_grads(step, *twin_lists):
    """Gradients of all sizes; in turn one parameter has none, one has zeros."""
    for i, same in enumerate(zip(*twin_lists, strict=True)):
        kind = (step + i) % 5
        grad = 10 ** torch.randn(()) * torch.randn(same[0].shape)
        for param in same:
            param.grad = None if kind == 3 else grad * (kind != 4)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"lr": 0.1, "betas": (0.5, 0.9)},
        {"betas": (0.0, 0.98), "eps": 1e-3},
        {"weight_decay": 0.1},
        {"weight_decay": 2.0, "betas": (0.9, 0.98), "eps": 1e-9},
    ],
)
def test_adam_equals_torch_over_1000_steps(options):
    ours = make_params()
    theirs = twins(ours)
    groups = [
        [{"params": params[:1], "lr": 0.02}, {"params": params[1:]}] for params in (ours, theirs)
    ]
    kind = torch.optim.AdamW if "weight_decay" in options else torch.optim.Adam
    adam, reference = Adam(groups[0], **options), kind(groups[1], **options)
    for step in range(1000):
        set_random_grads(step, ours, theirs)
        adam.step()
        reference.step()
        assert largest_difference(ours, theirs) <= 1e-12


def test_adam_leaves_a_parameter_without_gradient_alone():
    used, unused = torch.ones(2, requires_grad=True), torch.ones(2, requires_grad=True)
    adam = Adam([used, unused], lr=0.1)
    used.grad = torch.ones(2)
    adam.step()
    assert unused.equal(torch.ones(2)) and unused not in adam.state
    torch.testing.assert_close(used, torch.full((2,), 0.9))


def test_adam_continues_from_its_state_dict():
    straight = make_params()
    resumed = twins(straight)
    adam, before = Adam(straight, lr=0.05), Adam(resumed, lr=0.05)
    for step in range(10):
        set_random_grads(step, straight, resumed)
        adam.step()
        before.step()
    after = Adam(resumed, lr=1.0)
    after.load_state_dict(copy.deepcopy(before.state_dict()))
    for step in range(10, 20):
        set_random_grads(step, straight, resumed)
        adam.step()
        after.step()
    assert largest_difference(straight, resumed) == 0


def test_adam_works_with_schedulers():
    ours = make_params()
    theirs = twins(ours)
    optimizers = Adam(ours, lr=0.1), torch.optim.Adam(theirs, lr=0.1)
    schedules = [torch.optim.lr_scheduler.StepLR(opt, 3, 0.5) for opt in optimizers]
    for step in range(12):
        set_random_grads(step, ours, theirs)
        for optimizer, schedule in zip(optimizers, schedules, strict=True):
            optimizer.step()
            schedule.step()
    assert optimizers[0].param_groups[0]["lr"] == 0.1 * 0.5**4
    assert largest_difference(ours, theirs) <= 1e-12


def test_a_gradient_scaler_skips_steps_with_infinite_gradients():
    weight = torch.ones(2, requires_grad=True)
    adam, scaler = Adam([weight], lr=0.1), torch.amp.GradScaler("cpu", init_scale=8.0)
    scaler.scale(weight.sum() * torch.inf).backward()
    scaler.step(adam)
    scaler.update()
    assert weight.equal(torch.ones(2)) and not adam.state
    adam.zero_grad()
    scaler.scale(weight.sum()).backward()
    scaler.step(adam)
    torch.testing.assert_close(weight, torch.full((2,), 0.9))


def test_adam_calls_the_closure():
    weight = torch.ones(1, requires_grad=True)
    adam = Adam([weight], lr=0.1)

    def closure():
        adam.zero_grad()
        loss = (weight**2).sum()
        loss.backward()
        return loss

    assert adam.step(closure).item() == 1.0
    torch.testing.assert_close(weight, torch.full((1,), 0.9))


@pytest.mark.parametrize(
    "options",
    [
        {"lr": -1.0},
        {"lr": float("nan")},
        {"betas": (1.0, 0.9)},
        {"betas": (0.9, -0.1)},
        {"eps": -1e-8},
        {"weight_decay": -0.1},
    ],
)
def test_adam_refuses_impossible_settings(options):
    with pytest.raises(ValueError, match=r"need betas in \[0, 1\) and all else from 0 on"):
        Adam(make_params(), **options)


@pytest.mark.parametrize("size", [0.0, 1e-9, 0.1, 1.0, 1e6])
@pytest.mark.parametrize("max_norm", [0.5, 1.0, 20.0])
def test_clipping_equals_torch(size, max_norm):
    ours = [*make_params(), torch.randn(2, requires_grad=True)]
    theirs = twins(ours)
    set_random_grads(0, ours, theirs)  # the last of the four has no gradient
    for param in [*ours, *theirs]:
        if param.grad is not None:
            param.grad = param.grad * size
    norm = clip_grad_norm(ours, max_norm)
    reference = torch.nn.utils.clip_grad_norm_(theirs, max_norm)
    torch.testing.assert_close(norm, reference, rtol=1e-12, atol=0)
    for mine, other in zip(ours, theirs, strict=True):
        if mine.grad is not None:
            torch.testing.assert_close(mine.grad, other.grad, rtol=1e-12, atol=0)


def test_clipping_takes_a_single_parameter():
    weight = torch.zeros(3, requires_grad=True)
    weight.grad = torch.full((3,), 10.0)
    assert clip_grad_norm(weight, 1.0) == pytest.approx(300**0.5)
    torch.testing.assert_close(weight.grad, torch.full((3,), 3**-0.5), rtol=1e-6, atol=0)


def test_clipping_takes_a_generator_and_no_gradients_at_all():
    assert clip_grad_norm((param for param in make_params()), 1.0) == 0
