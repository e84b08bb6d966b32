"""The loop of `training.train` with all that a long run needs: several processes, a progress bar,
checkpoints, curves, early stopping, and going on where a run was broken off.
"""

import io
import sys
from collections.abc import Callable, Iterator
from functools import partial
from math import ceil, inf, isfinite
from pathlib import Path
from time import perf_counter
from typing import TextIO

from torch import nn
from tqdm import tqdm

from helpers.data import Batch, TaskData, batches
from helpers.metrics import matches
from helpers.runs import checkpoint
from helpers.runs.batching import count, token_batches
from helpers.runs.checkpoint import Checkpoint
from helpers.runs.device import (
    add_up,
    gather,
    hand_back_memory,
    rank,
    use_half,
    use_threads,
    world_size,
)
from helpers.runs.logs import Log
from helpers.runs.settings import RunSettings, Settings
from helpers.runs.step import Learner, Step, read
from helpers.search.answers import predict
from helpers.tasks.scores import bleu
from helpers.tasks.task import Corpus
from helpers.training import Observer, epoch_line, is_best, mean_loss, set_up, train

LOGITS = 20_000_000  # computed at once where a loss is measured: a vocabulary for each word
SOON = 20  # steps after which a run knows about how long it will take
OFTEN = 50  # after so many steps the memory that is free is handed back
TOGETHER = 20  # steps on a GPU that are read together


class Run:
    """A model, its data and its settings, on their way through the epochs: what `train` needs, and
    what an observer may want to see. `history` grows by a record for each epoch. An observer that
    is added to `observers` is called after each epoch, once it is saved.
    """

    def __init__(
        self,
        model: nn.Module,
        data: TaskData,
        settings: Settings,
        saved: Checkpoint | None = None,
        teacher: nn.Module | None = None,
        corpus: str | Corpus | None = None,
    ):
        """A run that was broken off goes on from `saved`, its `checkpoint.latest`: on a CPU to the
        same parameters, history and reported lines as if nothing had happened. A `teacher` is a
        trained model whose opinion the loss takes into account (see `Learner`); `corpus` names
        the files that the data come from, if they do.

        Raises ValueError if the run to resume had other settings or other data.
        """
        self.model, self.data, self.settings = model.eval(), data, settings
        model.longest = max(len(trg) for _, trg in data.pairs.train) + 1
        self.corpus = saved.corpus if saved else Corpus.of(corpus)
        pairs, run = data.pairs.train, settings.run
        if run.batch_tokens:
            self.steps = count(pairs, run.batch_tokens)  # in an epoch
        else:
            self.steps = ceil(len(pairs) / run.batch_size)
        self.learner = Learner(model, settings, settings.run.epochs * self.steps, teacher)
        self.history = list(saved.history) if saved else []
        self.observers: list[Observer] = []
        self.digest, self.last_step = checkpoint.digest(data), None
        if saved:
            saved.settings.check_same(settings)
            if saved.digest != self.digest:
                raise ValueError("the run to resume had other data")
            model.load_state_dict(saved.model.state_dict())
            self.learner.load_state_dict(saved.learner)

    def step(self, batch: Batch) -> Step:
        """One training step."""
        self.last_step = self.learner.step(batch)
        return self.last_step

    def batches(self, epoch: int) -> Iterator[Batch]:
        """The batches of an epoch, in which the learner forces its share of true words."""
        run = self.settings.run
        self.learner.forcing = run.forcing_in(epoch)
        if run.batch_tokens:
            return token_batches(self.data.pairs.train, run.batch_tokens, run.seed, epoch)
        return batches(self.data.pairs.train, run.batch_size, run.seed, epoch)

    def measure(self) -> dict:
        """Validation loss and exact match, of translations from files BLEU, too; each process takes
        a share of the sentences.
        """
        data, share = self.data, slice(rank(), None, world_size())
        sentences, references, pairs = (
            part.valid[share] for part in (data.sentences, data.references, data.pairs)
        )
        tokens = sum(len(trg) + 1 for _, trg in pairs)  # and <eos>
        longest = max((len(trg) for _, trg in pairs), default=1)
        size = min(500, max(1, LOGITS // (longest * len(data.trg_vocab))))
        loss = mean_loss(self.model, pairs, size) * tokens if pairs else 0.0
        answers = predict(self.model, data.vocab, data.trg_vocab, sentences)
        answers, scores = [answer.words for answer in answers], {}
        if self.corpus and data.texts:
            task, texts = self.settings.task, data.texts.valid[share]
            lines = [task.join(words, data.trg_vocab) for words in answers]
            right = task.right_lines(lines, texts)
            scores["valid BLEU"] = bleu(gather(lines), gather(texts))
        else:
            right = matches(answers, references)
        loss, tokens, right = add_up(loss, tokens, sum(right))
        scores |= {"lr": self.last_step.lr} if self.last_step else {}
        exact = right / len(data.sentences.valid)
        return {"valid loss": loss / tokens, "valid exact match": exact} | scores

    def checkpoint(self) -> Checkpoint:
        """The run as it stands."""
        vocabs, learner = (self.data.vocab, self.data.trg_vocab), self.learner.state_dict()
        rest = (self.settings, self.history, self.corpus, self.digest, learner)
        return Checkpoint(self.model, *vocabs, *rest)


def fit(
    run: Run,
    folder: Path | None = None,
    log_dir: Path | None = None,
    report: Callable[[str], object] = print,
    bar: TextIO | None = None,
) -> list[dict]:
    """Trains; `report` is given one line an epoch, and the lines of the epochs done before. While
    an epoch runs, a bar that vanishes at its end is drawn on `bar`, by default on stdout.

    With a `folder`, each epoch is saved in it (see `checkpoint`); `best.pt` is the epoch with the
    lowest validation loss. With a `log_dir`, curves for TensorBoard are written there.

    Returns the history. Raises FloatingPointError as soon as the loss is no longer a finite number,
    and ValueError if another process is training in one of the folders, or if a file in `folder`
    that no run has written is in the way.
    """
    if rank() > 0:  # only process 0 writes and speaks
        folder, log_dir, report, bar = None, None, lambda line: None, io.StringIO()
    history, run_settings = run.history, run.settings.run
    with checkpoint.claim(folder, log_dir):
        if folder:
            checkpoint.check_ours(folder)
        log = Log(log_dir, run.steps * len(history))
        for epoch in range(1, len(history) + 1):
            report(line_of(history[:epoch]))
        if (
            folder
            and not is_over(history, run_settings)
            and not (history and checkpoint.is_unfinished(folder))
        ):
            checkpoint.start(folder, run.checkpoint())
        observers: list[Observer] = [
            lambda history: run.learner.end_epoch(history[-1]["valid loss"]),
            lambda history: log.epoch(history[-1], run.model, run.data),
        ]
        if folder:
            observers.append(lambda h: checkpoint.keep(folder, run.checkpoint(), is_best(h)))

        def tell(history: list[dict]) -> None:
            report(line_of(history))

        observers += [tell, *run.observers, partial(is_over, settings=run_settings)]
        if not is_over(history, run_settings):
            step, epoch_batches = with_log(run, log), with_bar(run, bar)
            train(step, epoch_batches, run.measure, run_settings.epochs, observers, history)
        log.close()
        if is_over(history, run_settings) and len(history) < run_settings.epochs:
            epochs = f"{run_settings.patience} epoch" + "s" * (run_settings.patience > 1)
            report(f"stopped: the exact match has not risen for {epochs}")
        if folder:
            checkpoint.finish(folder, len(history))
    return history


def line_of(history: list[dict]) -> str:
    """What is reported of the last epoch of `history`."""
    score = history[-1].get("valid BLEU")
    return epoch_line(history) + ("" if score is None else f"   valid BLEU {score:.2f}")


def with_log(run: Run, log: Log) -> Callable[[Batch], tuple[float, int]]:
    """A step of the run that leaves a point in each curve, and says where it failed. It returns the
    loss, summed, and the tokens of what was read: on a GPU that is nothing, until the epoch ends or
    there are `TOGETHER` steps to read.
    """
    size = 1 if run.learner.in_numbers else TOGETHER
    unread: list[Step] = []

    def logged_step(batch: Batch) -> tuple[float, int]:
        if (log.done + len(unread)) % OFTEN == 0:
            hand_back_memory()
        total, tokens = 0.0, 0
        try:
            unread.append(run.step(batch))
            if len(unread) == size or (log.done + len(unread)) % run.steps == 0:
                steps = read([*unread])
                unread.clear()
                for step in steps:
                    if not isfinite(step.loss):
                        raise FloatingPointError(f"loss {step.loss}")
                    log.step(step)
                    total, tokens = total + step.loss, tokens + step.tokens
        except FloatingPointError as error:
            epoch, i = divmod(log.done + len(unread), run.steps)
            where = f"epoch {epoch + 1}, batch {i + 1}"
            raise FloatingPointError(f"{error} in {where}: try a lower lr") from None
        return total, tokens

    return logged_step


def with_bar(run: Run, file: TextIO | None) -> Callable[[int], Iterator[Batch]]:
    """The batches of the run with a progress bar; where it will take minutes, it says so early."""
    look = {"total": run.steps, "leave": False, "ncols": 70, "file": file or sys.stdout}
    epochs, first = run.settings.run.epochs, len(run.history) + 1

    def epoch_batches(epoch: int) -> Iterator[Batch]:
        started = perf_counter()
        for i, batch in enumerate(tqdm(run.batches(epoch), f"epoch {epoch}/{epochs}", **look)):
            if epoch == first and i == SOON:
                steps = run.steps * (epochs - epoch + 1)
                minutes = (perf_counter() - started) / SOON * steps / 60
                if minutes > 2 and file:
                    tqdm.write(f"{steps} steps: about {minutes:.0f} minutes", look["file"])
            yield batch

    return epoch_batches


def is_over(history: list[dict], settings: RunSettings) -> bool:
    """Whether all epochs are done, or the exact match has not risen, by more than `min_delta`, for
    `patience` epochs. One that is still 0 is not waited for. Of two epochs with the same exact
    match below 1 that with the lower validation loss is better, unless there is a `min_delta`.
    """
    best, lowest, waited, least = 0.0, inf, 0, settings.min_delta or 0.0
    for record in history:
        score, loss = record["valid exact match"], record["valid loss"]
        tie_won = score == best < 1 and loss < lowest and not least
        waited += 1
        if best == 0 or score > best + least or tie_won:
            best, lowest, waited = score, loss, 0
    return len(history) >= settings.epochs or 0 < settings.patience <= waited


def fit_apart(settings: Settings, folder: Path) -> tuple[list[str], float]:
    """Trains the model of `settings` from the beginning, without a word: for a process of its own.
    Returns the lines that `fit` reports, and the seconds that it took.
    """
    data, model = prepare(settings)
    lines, started = [], perf_counter()
    fit(Run(model, data, settings), folder, report=lines.append, bar=io.StringIO())
    return lines, perf_counter() - started


def prepare(settings: Settings, corpus: str | Corpus | None = None) -> tuple[TaskData, nn.Module]:
    """Seed and precision, the data and an untrained model for them."""
    set_up(settings.run.seed, settings.run.dtype)
    use_threads(settings.run.threads)
    use_half(settings.run.device)
    data = settings.task.load(settings.run.seed, corpus)
    return data, settings.model.build(len(data.vocab), len(data.trg_vocab))
