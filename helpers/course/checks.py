"""What each check tries, and how its outcome is judged.

A check has two halves. The *trial* calls the student's functions with given numbers and returns
what came out of them, as tensors by name. It runs in a process of its own, where all other
functions of the assignment are missing: whatever they would do is done by a stand-in here, which
does something similar and simpler. So a fault of one row costs nothing in another.

The *judge* sees no code. It compares the outcome with that of the solution for the same numbers,
or, where several faults would otherwise be counted for one, with what follows from the student's
own numbers: the context from their weights, the step of Adam from their moments. It returns None,
or in a few words what came.

Shapes: B batch, S source length, T target length, E embedding, H hidden, A attention, V vocabulary.
"""

from collections.abc import Callable
from contextlib import suppress
from importlib import import_module
from pathlib import Path

import torch
from torch import Tensor, nn

from helpers.data import BOS, EOS, PAD, SPECIALS, Vocab

Numbers = dict[str, Tensor]  # what is given, or what came out; strings name what a number is
Judge = Callable[[Numbers, Numbers, Numbers], str | None]  # of given, outcome and expected outcome


class Later:
    """A module of `helpers` that is imported when it is first used, which is in a trial. The
    judges, in another process, go on if a student's file cannot be imported.
    """

    def __init__(self, name: str):
        vars(self)["module"] = f"helpers.{name}"

    def __getattr__(self, name: str):
        return getattr(import_module(vars(self)["module"]), name)

    def __setattr__(self, name: str, value: object):
        setattr(import_module(vars(self)["module"]), name, value)


decoding, metrics, model = Later("decoding"), Later("metrics"), Later("model")
optim, training = Later("optim"), Later("training")
CLOSE = {"rtol": 1e-6, "atol": 1e-9}  # float64; the order of operations may differ


def same(given: Numbers, came: Numbers, expected: Numbers) -> str | None:
    """Each number as in the solution."""
    for name, right in expected.items():
        if wrong := difference(name, came[name], right):
            return wrong
    return None


def difference(name: str, own: Tensor, right: Tensor, **close: float) -> str | None:
    """None, or in which way a tensor is not what it should be."""
    if own.shape != right.shape:
        return f"{name} of shape {tuple(own.shape)} instead of {tuple(right.shape)}"
    if right.dtype == torch.bool and own.dtype == torch.bool:
        count = (own != right).sum().item()
        return f"{name}, {count} of {own.numel()} the wrong way round" if count else None
    own, right = own.double(), right.double()
    if own.isnan().any() and not right.isnan().any():
        return f"{name} with a nan in it, which is no number"
    if torch.allclose(own, right, **CLOSE | close):
        return None
    if right.dim() == 0:
        return f"{name} {own.item():.6g} instead of {right.item():.6g}"
    gap = (own - right).abs().nan_to_num(torch.inf).max().item()
    return f"{name} of the right shape {tuple(own.shape)}, but off by up to {gap:.3g}"


def tensor(value: object) -> Tensor:
    return torch.as_tensor(value).detach().clone()


class Dice:
    """Random numbers that are given: `uniform` from -1 to 1, `ids` of words, sizes."""

    def __init__(self, seed: int):
        self.generator = torch.Generator().manual_seed(seed)

    def uniform(self, *shape: int) -> Tensor:
        return 2 * torch.rand(shape, generator=self.generator, dtype=torch.float64) - 1

    def whole(self, low: int, high: int, *shape: int) -> Tensor:
        """Whole numbers from `low` to `high`, both included."""
        return torch.randint(low, high + 1, shape, generator=self.generator)

    def ids(self, lens: Tensor, vocab_size: int) -> Tensor:
        """Rows of ids of words, padded, of which row i has `lens[i]`."""
        ids = self.whole(len(SPECIALS), vocab_size - 1, len(lens), int(lens.max()))
        return ids * (torch.arange(ids.size(1)) < lens.unsqueeze(1))

    def parameters(self, module: nn.Module) -> Numbers:
        return {name: self.uniform(*part.shape) for name, part in module.state_dict().items()}


def filled(module: nn.Module, given: Numbers, prefix: str = "at ") -> nn.Module:
    """The module with the parameters that are given for it."""
    state = {name: given[prefix + name] for name in module.state_dict()}
    module.load_state_dict(state)
    return module


def named(prefix: str, numbers: Numbers) -> Numbers:
    return {prefix + name: value for name, value in numbers.items()}


# A1: encoder


def encoder_sizes(given: Numbers) -> nn.Module:
    return model.Encoder(*(int(size) for size in given["sizes"]))


def give_a1(dice: Dice) -> Numbers:
    given = {"sizes": torch.tensor([12, 3, 4])}  # V, E, H
    lens = torch.tensor([2, 5, 3])
    given |= {"lens": lens, "src": dice.ids(lens, 12)}
    given["whole"] = dice.ids(torch.tensor([4, 4]), 12)
    return given | named("at ", dice.parameters(encoder_sizes(given)))


def encode(given: Numbers, src: Tensor, lens: Tensor) -> tuple[Tensor, Tensor]:
    """States at all places, and the first state of the decoder."""
    return filled(encoder_sizes(given), given)(src, lens)


def longest_first(given: Numbers) -> tuple[Tensor, Tensor]:
    order = given["lens"].argsort(descending=True)
    return given["src"][order], given["lens"][order]


def encoder_shapes(given: Numbers) -> Numbers:
    """With a place more than the longest source has words."""
    src, lens = longest_first(given)
    states, first = encode(given, nn.functional.pad(src, (0, 1), value=PAD), lens)
    return {"states": torch.zeros(states.shape), "first state": torch.zeros(first.shape)}


def forward_states(given: Numbers) -> Numbers:
    src, lens = longest_first(given)
    states, _ = encode(given, src, lens)
    return {"forward states at words": states[..., : given["sizes"][2]][src != PAD]}


def backward_states(given: Numbers) -> Numbers:
    """Here alone the sources are in no order."""
    states, _ = encode(given, given["src"], given["lens"])
    at_words, size = given["src"] != PAD, given["sizes"][2]
    backward = {"backward states at words": states[..., size:][at_words]}
    return backward | {"states on padding": states[~at_words]}


def first_state(given: Numbers) -> Numbers:
    _, first = encode(given, given["whole"], torch.tensor([4, 4]))
    return {"first state": first}


# A2: attention


def attention_sizes(given: Numbers) -> nn.Module:
    return model.AdditiveAttention(*(int(size) for size in given["sizes"]))


def give_a2(dice: Dice) -> Numbers:
    """Each row has padding and each place a word, so that no softmax is over nothing but -inf,
    whether the mask is inverted or the wrong dimension summed.
    """
    given = {"sizes": torch.tensor([3, 6, 4])}  # H, 2H, A
    mask = torch.arange(5) < torch.tensor([[4], [2], [4]])
    mask[2] = mask[2].flip(0)  # the padding comes first
    given |= {"query": dice.uniform(3, 3), "values": dice.uniform(3, 5, 6), "mask": mask}
    given |= {"energy": 3 * dice.uniform(3, 5)}
    return given | named("at ", dice.parameters(attention_sizes(given)))


def attend(given: Numbers) -> tuple[Tensor, Tensor]:
    """Context and weights of the attention, for all places that are no padding."""
    attention = filled(attention_sizes(given), given)
    keys = attention.project_keys(given["values"])
    return attention(given["query"], keys, given["values"], given["mask"])


def scores(given: Numbers) -> Numbers:
    """A softmax takes no notice of a constant, so the scores are compared up to one. `look_up` may
    be called for each row by itself.
    """
    seen, look_up = [], model.look_up

    def stand_in(energy, values, mask):
        seen.append(energy)
        return values.sum(dim=1), torch.ones_like(energy)

    model.look_up = stand_in
    try:
        _, weights = attend(given | {"mask": torch.ones_like(given["mask"])})
    finally:
        model.look_up = look_up
    energy = torch.cat(seen) if seen else weights.log()
    return {"scores": energy - energy.mean(dim=-1, keepdim=True)}


def look_up(given: Numbers) -> Numbers:
    context, weights = model.look_up(given["energy"], given["values"], given["mask"])
    return {"context": context, "weights": weights}


def sums(given: Numbers) -> Numbers:
    return {"sum of the weights": look_up(given)["weights"].sum(dim=-1)}


def weights_on_padding(given: Numbers) -> Numbers:
    """Those of the attention as a whole, too, unless it fails, which costs its scores."""
    came = {"weights": look_up(given)["weights"]}
    with suppress(Exception):
        came["weights of the attention"] = attend(given)[1]
    return came


def no_padding(given: Numbers, came: Numbers, expected: Numbers) -> str | None:
    for name, weights in came.items():
        if weights.shape != given["mask"].shape:
            return difference(name, weights, given["mask"])
        largest = weights[~given["mask"]].abs().max().item()
        if largest != 0:
            return f"a weight of {largest:.3g} on padding"
        if not (weights[given["mask"]] > 0).all():
            return "words without a weight above 0"
    return None


def masked_weights(given: Numbers) -> Numbers:
    return {"weights": look_up(given)["weights"]}


def whole_context(given: Numbers) -> Numbers:
    context, weights = attend(given)
    return {"context": context, "weights": weights}


def weighted_sum(given: Numbers, came: Numbers, expected: Numbers) -> str | None:
    """The context that follows from the student's own weights."""
    weights = came["weights"]
    if weights.shape != given["mask"].shape or not (weights > 0).sum(dim=1).max() > 1:
        return "no weights of several places to judge it by"
    right = torch.einsum("bs,bsh->bh", weights, given["values"])
    return difference("context", came["context"], right)


def half_precision(given: Numbers) -> Numbers:
    short = given | {name: given[name].half() for name in ("energy", "values")}
    return look_up(given) | named("16 bits: ", look_up(short))


def nearly(given: Numbers, came: Numbers, expected: Numbers) -> str | None:
    """As the student's own in 64 bits, as far as 16 bits go."""
    wrong = (difference(name, came[f"16 bits: {name}"], came[name], atol=5e-3)
             for name in ("context", "weights"))  # fmt: skip
    return next(filter(None, wrong), None)


# A3: a step of the decoder


class Attention(nn.Module):
    """Stand-in: the context and the weights are given; it remembers what it was asked."""

    def __init__(self, context: Tensor, weights: Tensor):
        super().__init__()
        self.answer, self.asked = (context, weights), {}
        self.project_keys = nn.Linear(weights.size(1), weights.size(1), bias=False)

    def forward(self, query: Tensor, keys: Tensor, values: Tensor, mask: Tensor):
        self.asked = {"query": query, "keys": keys, "values": values, "mask": mask}
        return self.answer


def decoder_sizes(given: Numbers) -> nn.Module:
    """V = 9, E = 2, H = 3, and 2H values."""
    return model.Decoder(9, 2, 3, 6, Attention(given["context"], given["weights"]))


def give_a3(dice: Dice) -> Numbers:
    given = {"context": dice.uniform(2, 6), "weights": dice.uniform(2, 4).abs()}
    given |= {"mask": torch.arange(4) < torch.tensor([[4], [2]])}
    given |= {"emb": dice.uniform(2, 2), "state": dice.uniform(2, 3)}
    given |= {"keys": dice.uniform(2, 4, 5), "values": dice.uniform(2, 4, 6)}
    return given | named("at ", dice.parameters(decoder_sizes(given)))


def decoder_step(given: Numbers) -> tuple[nn.Module, tuple[Tensor, Tensor, Tensor]]:
    decoder = filled(decoder_sizes(given), given)
    parts = (given[name].clone() for name in ("emb", "state", "keys", "values", "mask"))
    return decoder, decoder.step(*parts)


def asks_with_old_state(given: Numbers) -> Numbers:
    decoder, _ = decoder_step(given)
    return decoder.attention.asked


def new_state(given: Numbers) -> Numbers:
    return {"new state": decoder_step(given)[1][1]}


def features(given: Numbers) -> Numbers:
    _, (for_output, state, weights) = decoder_step(given)
    return {"features": for_output, "state": state, "weights": weights}


def state_and_context(given: Numbers, came: Numbers, expected: Numbers) -> str | None:
    """The features that follow from the new state, which is right or the student's own."""
    if came["state"].shape != expected["state"].shape:
        return difference("state", came["state"], expected["state"])
    wrong = difference("features", came["features"], expected["features"])
    if wrong:
        own = torch.hstack([came["state"], given["context"]])
        wrong = difference("features", came["features"], own)
    return wrong or difference("weights", came["weights"], given["weights"])


# A4: the loss


def give_a4(dice: Dice) -> Numbers:
    lens = torch.tensor([4, 1, 3])
    given = {"logits": 2 * dice.uniform(3, 4, 7), "trg_out": dice.ids(lens, 7)}
    return given | {"whole": dice.ids(torch.tensor([4, 4, 4]), 7)}


def count_tokens(given: Numbers) -> Numbers:
    _, tokens = training.masked_cross_entropy(given["logits"], given["trg_out"])
    return {"number of tokens": tensor(tokens)}


def gradient_on_padding(given: Numbers) -> Numbers:
    logits = given["logits"].clone().requires_grad_()
    total, _ = training.masked_cross_entropy(logits, given["trg_out"])
    total.backward()
    padding = given["trg_out"] == PAD
    at_words = logits.grad[~padding].abs().sum(dim=-1) > 0
    return {"gradient on padding": logits.grad[padding], "words with a gradient": at_words}


def summed_loss(given: Numbers) -> Numbers:
    total, _ = training.masked_cross_entropy(given["logits"], given["whole"])
    return {"loss": total}


# A5: Adam

LR, BETAS = 0.01, (0.8, 0.9)


def give_a5(dice: Dice) -> Numbers:
    """Two parameters, and four gradients of each."""
    given = {}
    for name, shape in (("p", (3, 2)), ("q", (4,))):
        given |= {name: dice.uniform(*shape), f"{name} gradients": dice.uniform(4, *shape)}
    return given


class Training:
    """The student's Adam with two parameters. `step` gives them gradients, or one of them none;
    it returns by how much each has moved.
    """

    def __init__(self, given: Numbers, **options: float):
        self.given, self.names = given, ("p", "q")
        self.params = [given[name].clone().requires_grad_() for name in self.names]
        self.adam = optim.Adam(self.params, lr=LR, betas=BETAS, **options)

    def step(self, t: int, without: str | None = None) -> Numbers:
        for name, param in zip(self.names, self.params, strict=True):
            param.grad = None if name == without else self.given[f"{name} gradients"][t].clone()
        before = [tensor(param) for param in self.params]
        self.adam.step()
        moved = [tensor(param) - old for param, old in zip(self.params, before, strict=True)]
        return dict(zip(self.names, moved, strict=True))

    def moments(self, name: str) -> Numbers:
        """The student's own, as they stand."""
        state = self.adam.state[self.params[self.names.index(name)]]
        return {f"{kind} of {name}": tensor(state[kind]) for kind in ("mean", "square")}


def moments(given: Numbers) -> Numbers:
    run = Training(given)
    for t in range(3):
        run.step(t)
    return run.moments("p") | run.moments("q")


def without_gradient(given: Numbers) -> Numbers:
    """In the second step of three, q has no gradient."""
    run = Training(given)
    run.step(0)
    before = run.moments("q")
    moved = run.step(1, without="q")
    after = run.moments("q")
    run.step(2)
    kept = {name: after[name] - before[name] for name in before}
    counts = [int(run.adam.state[param]["step"]) for param in run.params]
    own = {"change of q": moved["q"], "whether p moves": (moved["p"] != 0).any()}
    own |= {"steps of p beyond q": tensor(counts[0] - counts[1])}
    return own | named("change of the ", kept)


def corrected_steps(given: Numbers) -> Numbers:
    """Without eps, so that only the correction counts. Neither do the moments: they are the
    student's own.
    """
    run, came = Training(given, eps=0.0), {}
    for t in range(3):
        moved = run.step(t)
        came |= {f"step {t + 1} of {name}": moved[name] for name in moved}
        for name in run.names:
            came |= named(f"{t + 1}: ", run.moments(name))
    return came


def follows_from_moments(given: Numbers, came: Numbers, expected: Numbers) -> str | None:
    for t in (1, 2, 3):
        for name in ("p", "q"):
            mean, square = (came[f"{t}: {kind} of {name}"] for kind in ("mean", "square"))
            first, second = (part / (1 - beta**t)
                             for part, beta in zip((mean, square), BETAS, strict=True))  # fmt: skip
            step = f"step {t} of {name}"
            if came[step].shape != expected[step].shape or not (came[step] != 0).all():
                return f"no {step}"
            if wrong := difference(step, came[step], -LR * first / second.sqrt()):
                return wrong
    return None


EPS, LATE = 0.5, 250  # after so many steps, the correction is next to nothing


def late_step(given: Numbers) -> Numbers:
    run = Training(given, eps=EPS)
    for t in range(LATE):
        moved = run.step(t % 4)
    return moved | run.moments("p") | run.moments("q")


def eps_outside(given: Numbers, came: Numbers, expected: Numbers) -> str | None:
    """In proportion: sign and size of a step count as "corrected step"."""
    for name in ("p", "q"):
        mean, square = (came[f"{kind} of {name}"] for kind in ("mean", "square"))
        own, right = came[name].abs(), mean.abs() / (square.sqrt() + EPS)
        if own.shape != expected[name].shape or not (own != 0).all():
            return f"no step of {name}"
        what = f"step of {name}, divided by its norm,"
        if wrong := difference(what, own / own.norm(), right / right.norm(), rtol=1e-5):
            return wrong
    return None


# A6: clipping


def give_a6(dice: Dice) -> Numbers:
    return {"p": 5 * dice.uniform(3, 2), "q": dice.uniform(4), "max_norm": torch.tensor(2.0)}


def clip(given: Numbers, max_norm: float, *more: Tensor) -> tuple[Tensor, Numbers]:
    """What is returned, and the gradients after it; `more` parameters have none."""
    params = [torch.zeros_like(given[name]).requires_grad_() for name in ("p", "q")]
    for name, param in zip(("p", "q"), params, strict=True):
        param.grad = given[name].clone()
    norm = optim.clip_grad_norm(iter([*params, *more]), max_norm)  # as from model.parameters()
    return tensor(norm).double(), {f"gradient of {name}": tensor(param.grad)
                                   for name, param in zip("pq", params, strict=True)}  # fmt: skip


def norm_before(given: Numbers) -> Numbers:
    without = torch.zeros(3).requires_grad_()
    return {"norm": clip(given, given["max_norm"].item(), without)[0]}


def clipped(given: Numbers) -> Numbers:
    return clip(given, given["max_norm"].item())[1]


def not_clipped(given: Numbers) -> Numbers:
    """By a function that clips at all."""
    _, after = clip(given, given["max_norm"].item())
    changed = any((after[f"gradient of {name}"] != given[name]).any() for name in "pq")
    return clip(given, 1000.0)[1] | {"whether others change": tensor(changed)}


def roughly(given: Numbers, came: Numbers, expected: Numbers) -> str | None:
    """With or without the 1e-6 that keeps the factor finite."""
    wrong = (difference(name, came[name], expected[name], rtol=1e-5) for name in expected)
    return next(filter(None, wrong), None)


# A7: teacher forcing


def give_a7(dice: Dice) -> Numbers:
    given = {"context": dice.uniform(2, 6), "weights": dice.uniform(2, 4).abs()}
    given |= {"state": dice.uniform(2, 3), "values": dice.uniform(2, 4, 4)}
    given |= {"by state": dice.uniform(3, 3), "by word": dice.uniform(2, 3)}
    given |= {"to features": dice.uniform(3, 9), "to weights": dice.uniform(3, 4)}
    trg_in = torch.cat([torch.full((2, 1), BOS), dice.whole(4, 7, 2, 4)], dim=1)
    given |= {"mask": torch.ones(2, 4, dtype=torch.bool), "trg_in": trg_in}
    return given | named("at ", dice.parameters(decoder_sizes(given)))


def force(given: Numbers, trg_in: Tensor) -> tuple[Tensor, Tensor]:
    """The decoder's forward pass with a stand-in for its step, which reads word, state and keys."""
    decoder = filled(decoder_sizes(given), given)

    def step(emb, state, keys, values, mask):
        shift = (keys - values).sum(dim=(1, 2)).unsqueeze(1) / 10
        state = torch.sin(state @ given["by state"] + emb @ given["by word"] + shift)
        return state @ given["to features"], state, (state @ given["to weights"]) * mask

    decoder.step = step
    return decoder(trg_in, given["state"], given["values"], given["mask"])


def forced_logits(given: Numbers) -> Numbers:
    return {"logits": force(given, given["trg_in"])[0]}


def forced_weights(given: Numbers) -> Numbers:
    return {"weights": force(given, given["trg_in"])[1]}


def true_words(given: Numbers) -> Numbers:
    """Another third word changes the third prediction, and none before. What becomes of the later
    ones is a matter of the state.
    """
    other = given["trg_in"].clone()
    other[:, 2] = 8
    one, two = (force(given, trg_in)[0] for trg_in in (given["trg_in"], other))
    steps = one.shape.index(other.size(1))  # the dimension; no other has this size
    changed = (one != two).movedim(steps, 0).flatten(1).any(dim=1)
    return {"predictions that change": changed[:3]}


# A8: the best model


def give_a8(dice: Dice) -> Numbers:
    """Validation losses of three runs: with a tie; with three epochs that are the best so far, and
    one after them; with one that is better only than the epoch before.
    """
    losses = dice.uniform(3, 5).abs() + 0.1
    losses[0, 2] = losses[0, :2].min()  # as low as the lowest before, and not lower
    for run, order in ((1, [3, 1, 2, 0, 4]), (2, [1, 4, 2, 0, 3])):
        losses[run] = losses[run].sort().values[order]
    return {"losses": losses}


def histories(losses: Tensor) -> list[list[dict]]:
    """What is known after each epoch of a run."""
    records = [{"epoch": i, "train loss": 1.0, "valid loss": loss}
               for i, loss in enumerate(losses.tolist(), start=1)]  # fmt: skip
    return [records[:i] for i in range(1, len(records) + 1)]


def which_is_best(given: Numbers) -> Numbers:
    answers = [[bool(training.is_best(history)) for history in histories(losses)]
               for losses in given["losses"]]  # fmt: skip
    return {"epochs that are the best so far": tensor(answers)}


def what_is_saved(given: Numbers) -> Numbers:
    """After each epoch the first parameter of those in the file: the number of their epoch."""
    losses = given["losses"][1]
    known = {len(h): float(losses[len(h) - 1]) <= float(losses[: len(h)].min())
             for h in histories(losses)}  # fmt: skip
    training.is_best = lambda history: known[len(history)]  # all losses of this run differ
    net, path = nn.Linear(2, 2), Path("new folder", "best.pt")
    vocab, kept = Vocab([*SPECIALS, "cat", "sat"]), []
    observe = training.save_best(net, vocab, path)
    for epoch, history in enumerate(histories(losses), start=1):
        nn.init.constant_(net.weight, epoch)
        observe(history)
        content = torch.load(path, weights_only=True)
        kept.append(content["parameters"]["weight"][0, 0].item())
    return {"epoch that is in the file": tensor(kept)}


# A9: mean loss


class Parrot(nn.Module):
    """Stand-in for a model: its logits (B, T, 1) are a number for each word that it was given."""

    def __init__(self, numbers: Tensor):
        super().__init__()
        self.numbers = nn.Parameter(numbers)

    def forward(self, src: Tensor, src_lens: Tensor, trg_in: Tensor) -> tuple[Tensor, Tensor]:
        return self.numbers[trg_in].unsqueeze(2), src


def give_a9(dice: Dice) -> Numbers:
    lens = torch.tensor([1, 6, 2, 5, 3])
    return {"numbers": 1 + dice.uniform(12), "lens": lens, "src": dice.ids(lens, 12)}


def average(given: Numbers, batch_size: int) -> Tensor:
    """The student's mean, with a stand-in for the loss: the logits of the words, added up."""

    def stand_in(logits, trg_out):
        words = trg_out.sign()
        return (logits.squeeze(2) * words).sum(), int(words.sum())

    training.masked_cross_entropy = stand_in
    rows = [row[:n] for row, n in zip(given["src"].tolist(), given["lens"], strict=True)]
    pairs = [(row, row[::-1]) for row in rows]
    return tensor(training.mean_loss(Parrot(given["numbers"]), pairs, batch_size)).double()


def one_batch(given: Numbers) -> Numbers:
    return {"mean loss": average(given, batch_size=8)}


def several_batches(given: Numbers) -> Numbers:
    return {"mean loss": average(given, batch_size=2)}


# A10: greedy decoding


class Scribe(nn.Module):
    """Stand-in for a model: it spells its source backwards as long as it reads its own last word
    as the previous one, and then ends, or, if it is `endless`, does not. What it writes after the
    end is nonsense.
    """

    def __init__(self, given: Numbers, endless: bool):
        super().__init__()
        self.noise, self.endless, self.longest = nn.Parameter(given["noise"]), endless, 0

    def start(self, src: Tensor, src_lens: Tensor) -> tuple[Tensor, ...]:
        before = torch.full_like(src_lens, BOS)
        return src, src_lens, before, torch.zeros_like(src_lens)

    def next_word(self, ids: Tensor, state: tuple[Tensor, ...]):
        src, lens, before, done = state
        place = (lens - 1 - done).clamp(min=0)
        word = src[torch.arange(len(src)), place]
        last = torch.tensor(7 if self.endless else EOS)
        word = torch.where(done < lens, word, torch.where(done == lens, last, 8))
        word = torch.where(ids == before, word, 9)  # it was not told what it wrote
        logits = self.noise[:, done].T + 5 * nn.functional.one_hot(word, len(self.noise))
        weights = nn.functional.one_hot(place, src.size(1)) * 0.75 + 0.25 / src.size(1)
        return logits, weights, (src, lens, word, done + 1)


def give_a10(dice: Dice) -> Numbers:
    lens = torch.tensor([2, 4, 1, 3])
    return {"lens": lens, "src": dice.ids(lens, 7), "noise": dice.uniform(10, 40)}


def write(given: Numbers, endless: bool = False) -> tuple[Tensor, Tensor]:
    return decoding.greedy(Scribe(given, endless), given["src"], given["lens"])


def to_the_last(rows: Tensor) -> Tensor:
    """Without columns at the end that hold nothing but 0, which is also `PAD`."""
    columns = rows.transpose(0, 1).flatten(1).any(dim=1).nonzero()
    return rows[:, : int(columns.max()) + 1]


def written_words(given: Numbers) -> Numbers:
    return {"ids": to_the_last(write(given)[0])}


def written_weights(given: Numbers) -> Numbers:
    return {"weights": to_the_last(write(given)[1])}


def cut_off(given: Numbers) -> Numbers:
    ids, _ = write(given, endless=True)
    return {"number of words": (ids > EOS).sum(dim=1)}


# A11: metrics


def give_a11(dice: Dice) -> Numbers:
    """Rows of ids; those of the hypotheses differ from the references here and there."""
    refs = dice.ids(torch.tensor([3, 5, 1, 4, 2]), 9)
    refs[0, :2] = torch.tensor([4, 5])
    hyps = refs.clone()
    hyps[0, :2] = torch.tensor([5, 4])  # the same words in another order
    hyps[1, 2], hyps[3, 0], hyps[4, 2:4] = 3, 3, 5
    hyps[3, 3] = PAD  # too short by one, while the fifth is too long by two
    return {"hyps": hyps, "refs": refs, "right": (hyps == refs).all(dim=1)}


def sentences(given: Numbers) -> tuple[list[list[int]], list[list[int]]]:
    hyps, refs = ([[id_ for id_ in row if id_ != PAD] for row in given[name].tolist()]
                  for name in ("hyps", "refs"))  # fmt: skip
    return hyps, refs


def found_matches(given: Numbers) -> Numbers:
    return {"matches": tensor([bool(x) for x in metrics.matches(*sentences(given))])}


def share_of_matches(given: Numbers) -> Numbers:
    metrics.matches = lambda hyps, refs: given["right"].tolist() if hyps else []
    share = metrics.exact_match(*sentences(given))
    of_none = metrics.exact_match([], [])
    return {"exact match": tensor(float(share)), "of none": tensor(float(of_none))}


def share_of_tokens(given: Numbers) -> Numbers:
    return {"token accuracy": tensor(float(metrics.token_accuracy(*sentences(given))))}


# A12: alignment


def give_a12(dice: Dice) -> Numbers:
    """Weights of sentences of 4, 3 and 6 words, with a row for <eos>; the last was cut short. Every
    second step looks where the first one looks.
    """
    given = {"lens": torch.tensor([4, 3, 6])}
    for i, (steps, n) in enumerate(((5, 4), (4, 3), (3, 6))):
        weights = dice.uniform(steps, n).abs()
        weights[1::2] /= 100
        for t in range(min(steps, n)):
            weights[t, n - 1 if t % 2 else n - 1 - t] += 2 + t
        given[f"weights {i}"] = weights
    return given


def aligned(given: Numbers) -> Numbers:
    weights = [given[f"weights {i}"] for i in range(3)]
    share = metrics.alignment_accuracy(weights, given["lens"].tolist())
    return {"alignment accuracy": tensor(float(share))}
