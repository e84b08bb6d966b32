"""Curves and attention figures for TensorBoard: `tensorboard --logdir runs`."""

import logging
import warnings
from math import isfinite
from pathlib import Path

import torch
from torch import Tensor, nn

from helpers.data import TaskData, collate
from helpers.runs.step import Step
from helpers.tasks.subwords import labels


class Log:
    """Writes what happens in a run to the folder `log_dir`; without a folder, nowhere.

    `done` is the number of training steps that the run has behind it. What an earlier run, or one
    that was broken off, has written there of later steps is no longer shown.
    """

    def __init__(self, log_dir: Path | None, done: int = 0):
        self.writer, self.done, self.draws = None, done, True
        if log_dir:
            from torch.utils.tensorboard import SummaryWriter  # here, since it takes a second

            self.writer = SummaryWriter(log_dir, purge_step=done + 1)

    def step(self, step: Step) -> None:
        """The next point of each curve of the training steps."""
        self.done += 1
        if self.writer:
            add, number = self.writer.add_scalar, self.done
            if step.tokens:
                add("train/loss", step.loss / step.tokens, number)
            add("train/learning rate", step.lr, number)
            if isfinite(step.norm):  # else the step was left out
                add("train/gradient norm", step.norm, number)
                add("train/gradient norm, clipped", step.clipped, number)

    @torch.no_grad()
    def epoch(self, record: dict, model: nn.Module, data: TaskData) -> None:
        """A point of each curve of the epochs, and the attention on one validation source, the
        first of eight tokens or near that.
        """
        if self.writer:
            number = self.done
            for name, value in record.items():
                if name.startswith("valid "):
                    self.writer.add_scalar(name.replace(" ", "/", 1), value, number)
            pair = min(data.pairs.valid, key=lambda pair: abs(len(pair[0]) - 8))
            batch = collate([pair]).to(next(model.parameters()).device)
            _, weights = model(batch.src, batch.src_lens, batch.trg_in)
            vocabs = data.vocab, data.trg_vocab
            src, trg = (labels(v, v.decode(ids)) for v, ids in zip(vocabs, pair, strict=True))
            if weights.any() and self.draws:  # without any: a model without attention
                self.picture(weights[0].cpu(), src, trg)
            self.writer.flush()  # before the checkpoint, so that a run that goes on lacks no point

    def picture(self, weights: Tensor, src: list[str], trg: list[str]) -> None:
        """A heatmap of `weights` (steps, S). No picture is worth a run: what goes wrong becomes one
        line on stderr, and there is no other picture in this run.
        """
        with warnings.catch_warnings(action="ignore"):  # of each character that no font has
            try:
                figure = draw(weights, src, trg)
            except Exception as error:  # fonts, back ends, whatever a library may think of
                says = "warning: no picture of the attention can be drawn: %s"
                logging.getLogger("helpers").warning(says, " ".join(str(error).split()))
                self.draws = False
            else:
                self.writer.add_figure("attention", figure, self.done)

    def close(self) -> None:
        """Makes sure that everything is in the file."""
        if self.writer:
            self.writer.close()


def draw(weights: Tensor, src: list[str], trg: list[str]):
    """A heatmap of `weights` (steps, S) that no notebook shows by itself."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # here, since they take another
    from matplotlib.figure import Figure

    from helpers.plotting import draw_attention

    figure = Figure(figsize=(7, 6), layout="constrained")
    draw_attention(figure.add_subplot(), weights, src, [*trg, "<eos>"])
    FigureCanvasAgg(figure).draw()  # so that what fails, fails here
    return figure
