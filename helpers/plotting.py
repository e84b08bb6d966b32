"""The charts of the notebooks. Each function draws one figure, shows it and returns None."""

import logging

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from torch import Tensor

# On a fresh machine matplotlib writes a warning when it first collects the fonts.
logging.getLogger("matplotlib.font_manager").setLevel(logging.ERROR)
sns.set_theme(style="whitegrid")


def draw_attention(
    ax: Axes, weights: Tensor, src: list[str], output: list[str], bar: bool = True
) -> None:
    """One heatmap on `ax`: `weights` (steps, S), source words on x, output words on y."""
    sns.heatmap(
        np.asarray(weights),
        ax=ax,
        vmin=0,
        vmax=1,
        cmap="Blues",
        square=True,
        linewidths=0.5,
        xticklabels=src,
        yticklabels=output,
        cbar=bar,
        cbar_kws={"label": "attention weight", "shrink": 0.8},
    )
    ax.set_xlabel("encoder: source word")
    ax.set_ylabel("decoder: output word")
    ax.tick_params(axis="x", rotation=45)
    ax.tick_params(axis="y", rotation=0)
    plt.setp(ax.get_xticklabels(), ha="right", rotation_mode="anchor")


def plot_attention(
    weights: Tensor, src: list[str], output: list[str], title: str, path: str | None = None
) -> None:
    """The attention weights (steps, S) of one sentence as a heatmap; saved if `path` is given."""
    fig, ax = plt.subplots(figsize=(7.5, 6.5), layout="constrained")
    draw_attention(ax, weights, src, output)
    ax.set_title(title)
    if path:
        fig.savefig(path, dpi=120)
    plt.show()


def plot_attention_growth(
    snapshots: dict[int, Tensor], src: list[str], output: list[str], title: str
) -> None:
    """The attention on one sentence after several epochs, the keys of `snapshots`, in a row."""
    fig, axes = plt.subplots(
        1, len(snapshots), figsize=(13, 4), sharey=True, squeeze=False, layout="constrained"
    )
    for ax, (epoch, weights) in zip(axes[0], snapshots.items(), strict=True):
        draw_attention(ax, weights, src, output, bar=ax is axes[0, -1])
        ax.set_title(f"after epoch {epoch}")
        ax.label_outer()
    fig.suptitle(title)
    plt.show()


def plot_curves(history: list[dict], title: str) -> None:
    """Training and validation loss on a log axis, validation exact match and the learning rate with
    which each epoch ended, over the epochs.
    """
    table = pd.DataFrame(history).set_index("epoch")
    fig, (left, middle, right) = plt.subplots(1, 3, figsize=(12, 3.8), layout="constrained")
    for column, style in (("train loss", "o-"), ("valid loss", "s--")):
        left.plot(table.index, table[column], style, label=column)
    left.set(yscale="log", xlabel="epoch", ylabel="loss (nats per token)")
    left.legend()
    middle.plot(table.index, 100 * table["valid exact match"], "s--", color="C1")
    middle.set(xlabel="epoch", ylabel="validation exact match (%)", ylim=(0, 103))
    right.plot(table.index, table["lr"], "d-", color="C2")
    right.set(xlabel="epoch", ylabel="learning rate", ylim=(0, None))
    right.ticklabel_format(axis="y", scilimits=(0, 0))
    for ax in (left, middle, right):
        ax.set_xticks(table.index)
    fig.suptitle(title)
    plt.show()


def plot_by_length(table: pd.DataFrame, title: str) -> None:
    """Exact match for each sentence length with its 95 % interval; `table` is from `by_length`."""
    share, low, high = (100 * table[column] for column in ("exact match", "low", "high"))
    fig, ax = plt.subplots(figsize=(9, 4), layout="constrained")
    ax.errorbar(table.index, share, [share - low, high - share], fmt="o", capsize=4)
    ax.set(xlabel="sentence length (words)", ylabel="exact match (%)", title=title)
    ax.set_xticks(table.index)
    plt.show()
