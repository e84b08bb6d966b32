"""The way through the code on a GPU, tried on one that is none (see `fake_cuda`): that no tensor is
left behind, and for what the CPU waits. Written for a GPU, tested without one.
"""

import math

import pytest
import torch

from helpers.commands.benchmark import Textbook, TextbookLearner
from helpers.data import collate
from helpers.decoding import decode
from helpers.models.parts import ATTENTIONS
from helpers.runs import checkpoint
from helpers.runs.logs import Log
from helpers.runs.loop import TOGETHER, Run, fit, prepare, with_log
from helpers.runs.step import Learner, Step, read
from helpers.search.answers import answer_ids
from helpers.search.beam import decode_with_beam
from helpers.tests.fake_cuda import OnCuda, fake_cuda
from helpers.tests.test_cli import run
from helpers.tests.tiny import TINY, fresh_model, silent, tiny_data
from helpers.training import mean_loss, train

MODELS = [
    {},
    *({"cell": cell, "attention": name} for cell in ("gru", "lstm") for name in ATTENTIONS),
    {"layers": 2},
    {"output": "tied"},
    {"output": "readout"},
    {"model": "transformer"},
]
RUNS = [
    {"dropout": 0.1},
    {"model": "transformer", "dropout": 0.1},
    {"teacher_forcing": 0.5},
    {"optimizer": "sgd", "lr": 0.1},
    {"accumulate": 3},
    {"accumulate": 7, "teacher_forcing": 0.5, "label_smoothing": 0.1},
    {"warmup": 2, "weight_decay": 0.1, "max_norm": 0.1},
    {"precision": "float64"},
]
CPU = TINY.having(precision="float32", batch_size=4, per_length=12)
WAIT_OF_THE_SCALER = ["_local_scalar_dense"]  # whether to leave out the step


def waits_for_a_sort(settings):
    """The encoder of the assignment, which is kept plain, lets torch sort the lengths of each part
    of a batch: the order is copied to the GPU and back. The others know that they are sorted.
    """
    sort = ["copy to the GPU", "copy to the CPU"]
    return sort * getattr(settings.model, "is_of_the_assignment", False)


@pytest.fixture(scope="module")
def data():
    return tiny_data(CPU)


def on_gpu(settings, **changes):
    return settings.having(device="cuda", **{"precision": settings.run.precision} | changes)


def learner_of(data, settings, **options):
    model = fresh_model(data, settings)
    model.longest = 7
    return Learner(model, settings, steps=100, **options)


def two_steps(learner, data):
    """That a fresh learner makes."""
    torch.manual_seed(0)  # of the own words
    return [learner.step(collate(data.pairs.train[i : i + 4])) for i in (0, 4)]


@pytest.mark.parametrize("changes", MODELS + RUNS, ids=str)
def test_a_step_does_the_same_and_waits_for_nothing(data, changes):
    settings = CPU.having(**changes)
    expected = two_steps(learner_of(data, settings), data)
    with fake_cuda() as gpu:
        learner = learner_of(data, on_gpu(settings))
        assert {str(param.device) for param in learner.model.parameters()} == {"cuda:0"}
        gpu.waits.clear()
        steps = two_steps(learner, data)
        assert gpu.waits == 2 * settings.run.accumulate * waits_for_a_sort(settings)
        gpu.waits.clear()
        steps = read(steps)
        assert gpu.waits == ["copy to the CPU"], "once for all of them"
    for step, other in zip(steps, expected, strict=True):
        assert (step.tokens, step.lr) == (other.tokens, other.lr)
        if not settings.model.dropout:  # whose numbers belong to rows
            numbers = step.loss, step.norm, step.clipped
            assert numbers == pytest.approx((other.loss, other.norm, other.clipped), rel=1e-4)


@pytest.mark.parametrize("changes", [{}, {"cell": "lstm"}, {"model": "transformer"}], ids=str)
@pytest.mark.parametrize("bfloat16", [True, False])
def test_in_half_precision_at_most_the_scaler_waits(data, changes, bfloat16):
    settings = on_gpu(CPU, amp=True, **changes)
    with fake_cuda(bfloat16) as gpu:
        prepare(settings)
        learner, kinds = learner_of(data, settings), set()
        for module in learner.model.modules():
            module.register_forward_hook(lambda module, given, out: kinds.add(dtype_of(out)))
        scaled = not bfloat16 or changes.get("model") != "transformer"  # cells need a scale
        assert learner.scaler.is_enabled() == scaled
        before = [param.detach().clone() for param in learner.model.parameters()]
        batch = collate(data.pairs.train[:4])
        gpu.waits.clear()
        step = learner.step(batch)
        assert gpu.waits == waits_for_a_sort(settings) + WAIT_OF_THE_SCALER * scaled
        assert (torch.bfloat16 if bfloat16 else torch.float16) in kinds
        assert 0 < read([step])[0].norm < 10
        both = zip(before, learner.model.parameters(), strict=True)
        assert any((old != new).any() for old, new in both)


def dtype_of(outputs):
    while isinstance(outputs, tuple):
        outputs = outputs[0]
    return outputs.dtype


def test_a_step_that_overflows_is_left_out_on_a_gpu_too(data):
    settings = on_gpu(CPU, amp=True)
    with fake_cuda(bfloat16=False):
        learner, batch = learner_of(data, settings), collate(data.pairs.train[:4])
        forward = learner.forward
        learner.forward = lambda *given: (forward(*given)[0] * torch.inf, None)
        scale, lr = learner.scaler.get_scale(), learner.optimizer.param_groups[0]["lr"]
        left_out = learner.step(batch)
        assert learner.scaler.get_scale() == scale / 2
        assert learner.optimizer.param_groups[0]["lr"] == lr
        learner.forward = forward
        first, second = read([left_out, learner.step(batch)])
        assert (first.loss, first.tokens) == (0.0, 0) and second.loss > 0 < second.tokens
        assert learner.optimizer.param_groups[0]["lr"] < lr


def test_with_a_teacher_only_its_loss_waits(data):
    settings = on_gpu(CPU)
    with fake_cuda() as gpu:
        teacher = fresh_model(data, CPU.having(seed=2))
        learner = learner_of(data, settings, teacher=teacher)
        gpu.waits.clear()
        learner.step(collate(data.pairs.train[:4]))
        losses = 2 * ["where is it True"]  # `soft_cross_entropy`, forth and back
        sorts = 2 * waits_for_a_sort(settings)  # of the teacher, too
        assert sorted(gpu.waits) == sorted(losses + sorts)


def test_what_the_steps_are_compared_with(data):
    """That it waits is part of the comparison."""
    settings = on_gpu(CPU)
    with fake_cuda():
        textbook = Textbook(fresh_model(data, CPU)).to("cuda")
        before = textbook.output.weight.detach().clone()
        TextbookLearner(textbook, settings).step(collate(data.pairs.train[:4]))
        assert (textbook.output.weight != before).any()


@pytest.mark.parametrize("changes", MODELS, ids=str)
def test_every_search_and_every_measure(data, changes):
    model = fresh_model(data, CPU.having(**changes))
    model.longest = 7
    sources = [src for src, _ in data.pairs.train[:9]]
    searches = [answer_ids, lambda *given: [answer.ids for answer in decode(*given)]]
    searches += [lambda *given: [answer.ids for answer in decode_with_beam(*given, 3)]]
    expected = [search(model.eval(), sources) for search in searches]
    loss = mean_loss(model, data.pairs.valid)
    with fake_cuda():
        model.to("cuda")
        assert [search(model, sources) for search in searches] == expected
        assert mean_loss(model, data.pairs.valid) == pytest.approx(loss, rel=1e-5)


@pytest.mark.parametrize("changes", [{}, {"amp": True}], ids=str)
def test_a_whole_run_its_files_and_going_on(data, changes, tmp_path):
    settings, lines = on_gpu(CPU, epochs=2, batch_size=8, **changes), []
    cpu = settings.having(device="cpu", precision="float32")
    expected = fit(Run(fresh_model(data, cpu), data, cpu), report=silent)
    with fake_cuda() as gpu:
        data, model = prepare(settings)
        history = fit(Run(model, data, settings), tmp_path / "a", tmp_path / "b", lines.append)
        saved = checkpoint.load(tmp_path / "a" / "last.pt")
        kept = [param.cpu() for param in model.parameters()]
        assert all(map(torch.equal, saved.model.parameters(), kept)) and len(lines) == 2
        again = Run(saved.model, data, settings, saved)
        state = again.learner.optimizer.state_dict()["state"]
        assert all(isinstance(moments["mean"], OnCuda) for moments in state.values())
        gpu.waits.clear()
        again.step(collate(data.pairs.train[:4]))
        scaler = WAIT_OF_THE_SCALER * again.learner.scaler.is_enabled()
        assert gpu.waits == waits_for_a_sort(settings) + scaler
    for record, other in zip(history, expected, strict=True):
        assert record == pytest.approx(other, rel=0.02 if changes else 1e-4)


def step_of(loss):
    """A step on a GPU with such a loss."""
    return Step(torch.tensor(loss, device="cuda").double(), 1, torch.tensor(1.0).cuda(), 1.0, 0.1)


@pytest.mark.parametrize("k", [0, TOGETHER - 1, TOGETHER, -2, -1])
@pytest.mark.parametrize("epoch", [1, 2])
@pytest.mark.parametrize("error", [None, FloatingPointError("the gradient overflows")])
def test_a_step_that_fails_is_named_though_it_is_read_later(data, epoch, k, error):
    """The one before is read with it, or with none: all that was good is in the curves."""
    settings = on_gpu(CPU, batch_size=2, epochs=3)
    with fake_cuda():
        broken, log = Run(fresh_model(data, settings), data, settings), Log(None)
        done, k = iter(range(10_000)), k % broken.steps
        fails = (epoch - 1) * broken.steps + k

        def step(batch):
            i = next(done)
            if error and i == fails:
                raise error
            return step_of(math.nan if i >= fails else float(i))

        broken.step, broken.measure = step, lambda: {"valid loss": 1.0}
        says = f"{error or 'loss nan'} in epoch {epoch}, batch {k + 1}: try a lower lr"
        with pytest.raises(FloatingPointError, match=f"^{says}$"):
            train(with_log(broken, log), broken.batches, broken.measure, 3)
        assert next(done) <= fails + TOGETHER


def test_what_is_read_later_is_in_the_record_of_its_epoch(data):
    settings = on_gpu(CPU, batch_size=2, epochs=2)
    with fake_cuda():
        run_, log = Run(fresh_model(data, settings), data, settings), Log(None)
        losses = iter(range(10_000))
        run_.step = lambda batch: step_of(float(next(losses)))
        step = with_log(run_, log)
        history = train(step, run_.batches, lambda: {"valid loss": 1.0}, 2)
    n = run_.steps
    means = [sum(range(start, start + n)) / n for start in (0, n)]
    assert n % TOGETHER and n > TOGETHER and log.done == 2 * n
    assert [record["train loss"] for record in history] == means


def test_the_commands_that_answer(tmp_path):
    sizes = "--per-length 30 --epochs 1 --hidden-size 8 --emb-size 8".split()
    run("train", *sizes, "--checkpoint-dir", tmp_path, "--device", "cpu")
    path = ["--checkpoint", tmp_path / "best.pt"]
    commands = [["evaluate", *path], ["reverse", *path, "the cat sat"]]
    commands += [["reverse", *path, "--beam", "3", "--heatmap", tmp_path / "a.png", "a dog"]]
    expected = [run(*command, "--device", "cpu")[0] for command in commands]
    (tmp_path / "a.png").unlink()
    with fake_cuda() as gpu:
        for flags in (["--device", "cuda"], []):
            gpu.waits.clear()
            assert [run(*command, *flags)[0] for command in commands] == expected
            assert gpu.waits
    assert (tmp_path / "a.png").exists()


# the fake GPU itself


def test_what_must_not_meet():
    with fake_cuda():
        there, here = torch.ones(3).to("cuda"), torch.ones(3)
        assert there.device.type == "cuda" and here.device.type == "cpu"
        for mixed in (
            lambda: there + here,
            lambda: torch.arange(3) < there,
            lambda: torch.cat([there, here]),
            lambda: torch.where(there > 0, there, here),
            lambda: torch.nn.functional.embedding(torch.tensor([0]), torch.ones(3, 2).to("cuda")),
        ):
            with pytest.raises(RuntimeError, match="all tensors to be on the same device"):
                mixed()
        assert (there + torch.tensor(1.0)).cpu().equal(here + 1), "one number may come from here"
        assert torch.arange(3, device=there.device).device.type == "cuda"
        with pytest.raises(TypeError, match="cuda"):
            there.numpy()


@pytest.mark.parametrize(
    "use, waits",
    [
        (lambda x: x + x.sum(), 0),
        (lambda x: x.item(), 1),
        (lambda x: bool(x > 0), 1),
        (lambda x: x.view(1).tolist(), 1),
        (lambda x: x.cpu(), 1),
        (lambda x: x.to("cpu", non_blocking=True), 1),
        (lambda x: torch.zeros(1).copy_(x), 1),
        (lambda x: x.view(1)[x.view(1) > 0], 1),
        (lambda x: torch.nonzero(x.view(1)), 1),
        (lambda x: torch.ones(2).to(x.device), 1),
        (lambda x: torch.ones(2).to(x.device, non_blocking=True), 1),
        (lambda x: torch.ones(2).pin_memory().to(x.device), 1),
        (lambda x: torch.ones(2).pin_memory().to(x.device, non_blocking=True), 0),
        (lambda x: torch.tensor([1.0], device=x.device), 1),
        (lambda x: torch.zeros(1, device=x.device), 0),
    ],
)
def test_what_is_waited_for(use, waits):
    with fake_cuda() as gpu:
        x = torch.tensor(1.0).to("cuda")
        gpu.waits.clear()
        use(x)
        assert len(gpu.waits) == waits


def test_what_a_fake_gpu_leaves_behind():
    """Nothing: torch is as it was."""
    before = torch.Tensor.to, torch.autocast, torch.get_autocast_dtype("cuda"), torch.tensor
    with fake_cuda():
        pass
    after = torch.Tensor.to, torch.autocast, torch.get_autocast_dtype("cuda"), torch.tensor
    assert after == before and not torch.cuda.is_available()
