"""How fast is this? `python -m helpers benchmark` measures, in one run: training beside the loop of
a textbook, on one thread beside two, with larger vocabularies, decoding in batches beside one
sentence at a time, Adam beside torch's, each in turns with the other, and compares the medians; and
what a training step takes, in time and in memory.
With `--device cuda` it measures a GPU instead: whether the model learns there what it learns on a
CPU, and how many words a second it reads in training.

Seconds depend on the machine, ratios less. `Textbook` serves this comparison alone.
"""

import argparse
import copy
import io
import json
import random
import re
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from functools import partial
from math import isfinite, nan
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from time import perf_counter

import torch
from torch import Tensor, nn

from helpers.data import PAD, SPECIALS, Batch, Pair, batches, collate
from helpers.decoding import decode
from helpers.model import Seq2Seq, build_model
from helpers.optim import Adam
from helpers.runs.checkpoint import write
from helpers.runs.device import choose_device
from helpers.runs.loop import Run, fit, prepare
from helpers.runs.settings import Settings
from helpers.runs.step import Learner
from helpers.search.answers import right_answers
from helpers.training import masked_cross_entropy, set_up

VOCAB = 400  # symbols; the sentences are random
GROWTH = [(length, 4) for length in (10, 30, 100, 300, 1000)]  # words in a sentence, batch size
GROWTH += [(10, size) for size in (1, 8, 32, 128, 512)] + [(200, 32)]


class Textbook(nn.Module):
    """The model that it is given, with the same parameters, as tutorials write it: the encoder
    reads the padding, too; each step joins its query anew with every encoder output, takes one step
    of an `nn.GRU` and predicts its word.
    """

    def __init__(self, model: Seq2Seq):
        super().__init__()
        decoder, attention = model.decoder, model.decoder.attention
        self.encoder = copy.deepcopy(model.encoder)
        self.embedding, self.score = copy.deepcopy((decoder.embedding, attention.score))
        self.output, cell = copy.deepcopy((decoder.output, decoder.cell))
        both = attention.project_query.weight, attention.project_keys.weight
        self.attention = nn.Linear(sum(weight.size(1) for weight in both), len(both[0]), bias=False)
        self.attention.load_state_dict({"weight": torch.cat(both, dim=1)})
        self.gru = nn.GRU(cell.input_size, cell.hidden_size, batch_first=True)
        self.gru.load_state_dict({f"{name}_l0": part for name, part in cell.state_dict().items()})

    def forward(self, src: Tensor, src_lens: Tensor, trg_in: Tensor) -> Tensor:
        """Returns the logits (B, T, V)."""
        values, final = self.encoder.gru(self.encoder.embedding(src))
        state = torch.tanh(self.encoder.bridge(torch.cat([*final], dim=-1)))
        mask = torch.arange(src.size(1), device=src.device) < src_lens.to(src.device).unsqueeze(1)
        logits = []
        for t in range(trg_in.size(1)):
            query = state.unsqueeze(1).expand(-1, values.size(1), -1)
            hidden = torch.tanh(self.attention(torch.cat([query, values], dim=2)))
            energy = self.score(hidden).squeeze(2).masked_fill(~mask, -torch.inf)
            context = torch.bmm(energy.softmax(dim=1).unsqueeze(1), values)
            emb = self.embedding(trg_in[:, t : t + 1])
            out, state = self.gru(torch.cat([emb, context], dim=2), state.unsqueeze(0))
            state = state.squeeze(0)
            logits.append(self.output(torch.cat([out, context], dim=2)))
        return torch.cat(logits, dim=1)


class TextbookLearner:
    """Its training step, with the optimizer and the clipping of torch."""

    def __init__(self, model: Textbook, settings: Settings):
        self.model, adam = model, settings.optimizer
        betas, self.max_norm = (adam.beta1, adam.beta2), adam.max_norm
        self.optimizer = torch.optim.Adam(model.parameters(), adam.lr, betas, adam.eps)

    def step(self, batch: Batch) -> None:
        batch = batch.to(next(self.model.parameters()).device)
        logits = self.model(batch.src, batch.src_lens, batch.trg_in)
        loss, tokens = masked_cross_entropy(logits, batch.trg_out)
        self.optimizer.zero_grad()
        (loss / tokens).backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), self.max_norm)
        self.optimizer.step()


def in_turns(*contenders: Callable[[], object], rounds: int) -> list[float]:
    """The median of the seconds that each takes, over some rounds after a first one that does not
    count.
    """
    seconds = [[] for _ in contenders]
    for _ in range(rounds + 1):
        for run, times in zip(contenders, seconds, strict=True):
            started = perf_counter()
            run()
            if torch.cuda.is_initialized():
                torch.cuda.synchronize()  # a GPU is told what to do, and does it later
            times.append(perf_counter() - started)
    return [median(times[1:]) for times in seconds]


def random_pairs(count: int, shortest: int, longest: int, vocab: int = VOCAB) -> list[Pair]:
    """Sentences of random ids and lengths, and the same in reverse."""
    rng = random.Random(1)
    ids = range(len(SPECIALS), vocab)
    sources = (rng.choices(ids, k=rng.randint(shortest, longest)) for _ in range(count))
    return [(src, src[::-1]) for src in sources]


def eight(settings: Settings, *kind: int, bucket: bool = True) -> list[Batch]:
    """Batches of sentences of a `kind`: shortest, longest and, if it is not `VOCAB`, vocabulary."""
    pairs = random_pairs(8 * settings.run.batch_size, *kind)
    return list(batches(pairs, settings.run.batch_size, seed=1, epoch=1, bucket=bucket))


def training(
    settings: Settings,
    shortest: int,
    longest: int,
    dtype: torch.dtype,
    bucket: bool,
    vocab: int = VOCAB,
) -> float:
    """How many times as long the textbook takes for the same sentences: in the same batches, of
    similar length, or else, without `bucket`, in batches put together at random, as in tutorials.
    """
    set_up(settings.run.seed)
    model = build_model(vocab, vocab)
    slow = TextbookLearner(Textbook(model).to(dtype), settings)
    fast = Learner(model.to(dtype), settings, steps=10_000)
    kind = settings, shortest, longest, vocab
    return ratio(slow.step, eight(*kind, bucket=bucket), fast.step, eight(*kind))


def loops(settings: Settings, shortest: int, longest: int, dtype: torch.dtype) -> float:
    """How many times as long the model of `model.py` takes as the loops that stand in for it in
    training, in the same batches and with all else the same.
    """
    set_up(settings.run.seed)
    model = build_model(VOCAB, VOCAB).to(dtype)
    plain, fast = (Learner(copy.deepcopy(model), settings, steps=10_000) for _ in range(2))
    plain.forward, same = plain.model, eight(settings, shortest, longest)
    return ratio(plain.step, same, fast.step, same)


def precision(settings: Settings, shortest: int, longest: int) -> float:
    """How many times as long training in float64 takes as in float32, in the same batches."""
    set_up(settings.run.seed)
    model, same = build_model(VOCAB, VOCAB), eight(settings, shortest, longest)
    double, single = (
        Learner(copy.deepcopy(model).to(dtype), settings, steps=10_000)
        for dtype in (torch.float64, torch.float32)
    )
    return ratio(double.step, same, single.step, same)


def threads(settings: Settings, shortest: int, longest: int) -> float:
    """How many times as long training in float32 takes on one thread as on two, in the same
    batches.
    """
    set_up(settings.run.seed)
    same = eight(settings, shortest, longest)
    learner = Learner(build_model(VOCAB, VOCAB).float(), settings, steps=10_000)

    def step(batch: Batch, count: int) -> None:
        torch.set_num_threads(count)
        learner.step(batch)

    return ratio(partial(step, count=1), same, partial(step, count=2), same)


def output_layer(settings: Settings, vocab: int) -> float:
    """How many times as long training in float32 takes with the one output layer of the model of
    the assignment, and all its logits at once, as with a readout that is tied to the target
    embedding, and the loss in pieces, in the same batches.
    """
    set_up(settings.run.seed)
    same = eight(settings, 3, 12, vocab)
    linear, tied = (
        Learner(chosen.model.build(vocab, vocab).float(), chosen, steps=10_000)
        for chosen in (settings, settings.having(output="tied"))
    )
    return ratio(linear.step, same, tied.step, same)


def ratio(
    slow: Callable[[Batch], object],
    theirs: Iterable[Batch],
    fast: Callable[[Batch], object],
    ours: Iterable[Batch],
) -> float:
    """How many times as long one step takes for its batches as the other for as many of its own.
    The medians of all batches are added up.
    """
    seconds = [
        in_turns(partial(slow, their), partial(fast, our), rounds=5)
        for their, our in zip(theirs, ours, strict=True)
    ]
    slower, faster = map(sum, zip(*seconds, strict=True))
    return slower / faster


def data_share(settings: Settings) -> float:
    """The share of a training step that goes into making its batch."""
    set_up(settings.run.seed)
    pairs = random_pairs(200 * settings.run.batch_size, 3, 12)
    learner = Learner(build_model(VOCAB, VOCAB), settings, steps=10_000)
    ready = list(batches(pairs, settings.run.batch_size, seed=1, epoch=1))

    def make() -> None:
        list(batches(pairs, settings.run.batch_size, seed=1, epoch=1))

    data, steps = in_turns(make, lambda: [learner.step(batch) for batch in ready[::10]], rounds=3)
    return data / (data + 10 * steps)


def decoding(settings: Settings, threads: int, count: int = 1000) -> float:
    """How many times as long it takes to decode `count` sentences one at a time as together, in
    float32, on so many `threads`. The model is not trained: hardly any answer ends before it is cut
    off.
    """
    set_up(settings.run.seed)
    torch.set_num_threads(threads)
    model, sources = (
        build_model(VOCAB, VOCAB).float().eval(),
        [src for src, _ in random_pairs(count, 3, 12)],
    )
    alone, together = in_turns(
        lambda: [decode(model, [src]) for src in sources], lambda: decode(model, sources), rounds=5
    )
    return alone / together


def adam(settings: Settings, **options: bool) -> float:
    """How many times as long as torch's, with these `options` or as it is by default, the step of
    our Adam takes.
    """
    set_up(settings.run.seed)
    models = [build_model(VOCAB, VOCAB) for _ in range(2)]
    for param in (param for model in models for param in model.parameters()):
        param.grad = torch.randn_like(param)
    ours = Adam(models[0].parameters())
    torchs = torch.optim.Adam(models[1].parameters(), **options)
    mine, other = in_turns(ours.step, torchs.step, rounds=100)
    return mine / other


def one_step(length: int, batch_size: int) -> tuple[float, float]:
    """The seconds of a training step, and the MiB of memory that the process had at its peak, with
    all that it has imported. For a process of its own, as the peak is that of its life.
    """
    settings = Settings.of()
    set_up(settings.run.seed)
    learner = Learner(build_model(VOCAB, VOCAB), settings, steps=10)
    batch = collate(random_pairs(batch_size, length, length))
    (seconds,) = in_turns(lambda: learner.step(batch), rounds=3)
    status = Path("/proc/self/status")  # elsewhere than on Linux: not measured
    peak = re.search(r"VmHWM:\s*(\d+) kB", status.read_text()) if status.exists() else None
    return seconds, int(peak[1]) / 1024 if peak else nan


WIDTHS, BATCH_SIZES = (64, 512), (32, 256, 2048)  # of the models and batches on a GPU
HALVES = {"float32": None, "float16": torch.float16, "bfloat16": torch.bfloat16}


@contextmanager
def halves(device: str, dtype: torch.dtype | None) -> Iterator[None]:
    """While it lasts, mixed precision on the device multiplies in `dtype`, if there is one."""
    usual = torch.get_autocast_dtype(device)
    torch.set_autocast_dtype(device, dtype or usual)
    try:
        yield
    finally:
        torch.set_autocast_dtype(device, usual)


def words_per_second(device: str, size: int, batch_size: int) -> Iterator[tuple[str, float]]:
    """How many target tokens a second are read in training, on the device, by models with so many
    numbers in embeddings, states and attention: by the textbook's in float32, by ours in each
    precision. All are given the same four batches, in turns.
    """
    settings = Settings.of(device=device, precision="float32", batch_size=batch_size)
    set_up(settings.run.seed, torch.float32)
    model = build_model(VOCAB, VOCAB, size, size, size)
    textbook = TextbookLearner(Textbook(model).to(device), settings)
    steps = {"textbook, float32": textbook.step}
    for name, dtype in HALVES.items():
        chosen = settings.having(amp=dtype is not None)
        with halves(device, dtype):
            steps[f"ours, {name}"] = Learner(copy.deepcopy(model), chosen, steps=10_000).step
    pairs = random_pairs(4 * batch_size, 3, 12, VOCAB)
    same = list(batches(pairs, batch_size, seed=1, epoch=1))

    def all_batches(step: Callable[[Batch], object], dtype: torch.dtype | None) -> None:
        with halves(device, dtype):
            for batch in same:
                step(batch)

    chosen = [HALVES[name.split(", ")[1]] for name in steps]
    contenders = [partial(all_batches, *both) for both in zip(steps.values(), chosen, strict=True)]
    tokens = sum(int((batch.trg_out != PAD).sum()) for batch in same)
    for name, seconds in zip(steps, in_turns(*contenders, rounds=5), strict=True):
        yield f"size {size}, batches of {batch_size}, {name}, tokens/s", tokens / seconds


def learned(device: str, half: str) -> Iterator[tuple[str, float]]:
    """What the model of the assignment has learned when it was trained on the device: the share of
    its 10,000 test sentences that it reverses without a fault; and the seconds of its training.
    """
    dtype = HALVES[half]
    settings = Settings.of(device=device, precision="float32", amp=dtype is not None)
    data, model = prepare(settings)
    with halves(device, dtype):
        started = perf_counter()
        fit(Run(model, data, settings), report=lambda line: None, bar=io.StringIO())
        seconds = perf_counter() - started
    right = right_answers(model, data, data.sentences.test, data.references.test)
    yield f"model of the assignment, {half}, exact match", sum(right) / len(right)
    yield f"model of the assignment, {half}, seconds of training", seconds


def on_gpu(device: str = "cuda") -> Iterator[tuple[str, float]]:
    """All names and values of a GPU."""
    for size in WIDTHS:
        for batch_size in BATCH_SIZES:
            yield from words_per_second(device, size, batch_size)
    for half in HALVES:
        yield from learned(device, half)


def on_cpu() -> Iterator[tuple[str, float]]:
    """All names and values of a CPU, each as soon as it is known."""
    settings = Settings.of()
    for lengths in ((3, 12), (30, 50)):
        for dtype in (torch.float32, torch.float64):
            digits = str(dtype).removeprefix("torch.")
            name = f"training, {lengths[0]} to {lengths[1]} words, {digits}"
            for bucket in (True, False):
                times = training(settings, *lengths, dtype, bucket)
                order = "same" if bucket else "random"
                yield f"{name}, textbook in {order} batches / ours", times
            yield f"{name}, model.py in same batches / ours", loops(settings, *lengths, dtype)
        named = f"{lengths[0]} to {lengths[1]} words"
        yield f"precision, {named}, float64 / float32", precision(settings, *lengths)
        yield f"threads, {named}, one / two", threads(settings, *lengths)
    for vocab in (VOCAB, 4_000, 10_000):
        name = f"vocabulary of {vocab:,}"
        if vocab != VOCAB:  # above
            times = training(settings, 3, 12, torch.float32, True, vocab)
            yield f"{name}, textbook / ours", times
        yield f"{name}, linear / tied output layer", output_layer(settings, vocab)
    for count, named in ((1, "one thread"), (2, "two threads")):
        yield f"decoding, {named}, one at a time / together", decoding(settings, count)
    yield "Adam, ours / torch's", adam(settings)
    for option in ("foreach", "fused"):
        yield f"Adam, ours / torch's, {option}", adam(settings, **{option: True})
    yield "making a batch, share of a training step", data_share(settings)
    with ProcessPoolExecutor(1, get_context("spawn"), max_tasks_per_child=1) as alone:
        for words, sentences in GROWTH:
            seconds, peak = alone.submit(one_step, words, sentences).result()
            name = f"step with {words} words in a sentence and {sentences} in a batch"
            yield f"{name}, seconds", seconds
            yield f"{name}, MiB", peak


def run(args: argparse.Namespace) -> None:
    """Prints each value as soon as it is known, and writes all of them to the file, if any."""
    values, device = {}, choose_device(args.device)
    if device == "cuda":
        values["GPU"] = f"{torch.cuda.get_device_name()}, torch {torch.__version__}"
        print(f"GPU: {values['GPU']}", flush=True)
    for name, value in on_gpu() if device == "cuda" else on_cpu():
        rounded = round(value, 4) if "exact match" in name else float(f"{value:.3g}")
        print(f"{name}: {rounded:g}", flush=True)
        values[name] = rounded if isfinite(rounded) else None  # JSON has no NaN
    if args.json:
        write(args.json, (json.dumps(values, indent=1) + "\n").encode())
