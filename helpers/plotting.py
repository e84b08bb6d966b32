"""The charts of the notebooks. Each function draws one figure and returns it."""

from math import ceil

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

sns.set_theme(style="whitegrid")


def draw_attention(
    ax: Axes, weights: Tensor, src: list[str], output: list[str], bar: bool = True
) -> None:
    """One heatmap on `ax`: `weights` (steps, S), source words on x, output words on y."""
    # where there is no room for all words, only each second, third ... of them is written
    room = ax.get_position().size * ax.figure.get_size_inches()  # for so many cells:
    cell = min(room / (len(src), max(1, len(output))))
    look = {"vmin": 0, "vmax": 1, "cmap": "Blues", "square": True, "linewidths": 0.5 * (cell > 0.1)}
    look |= {"cbar": bar, "cbar_kws": {"label": "attention weight", "shrink": 0.8}}
    # the labels are not seaborn's, which takes what stands between two "$" for a formula
    sns.heatmap(np.asarray(weights), ax=ax, xticklabels=False, yticklabels=False, **look)
    ax.set(xlabel="encoder: source word", ylabel="decoder: output word")
    gap, slanted = ceil(0.19 / cell), {"rotation": 45, "ha": "right", "rotation_mode": "anchor"}
    ax.set_xticks(np.arange(len(src))[::gap] + 0.5, src[::gap], parse_math=False, **slanted)
    ax.set_yticks(np.arange(len(output))[::gap] + 0.5, output[::gap], parse_math=False)


def plot_attention(
    weights: Tensor, src: list[str], output: list[str], title: str, path: str | None = None
) -> Figure:
    """The attention weights (steps, S) of one sentence as a heatmap; saved if `path` is given."""
    fig, ax = plt.subplots(figsize=(7.5, 6.5), layout="constrained")
    draw_attention(ax, weights, src, output)
    ax.set_title(title, parse_math=False)
    if path:
        fig.savefig(path, dpi=120)
    return fig


def plot_attention_growth(
    maps: dict[str, Tensor], src: list[str], output: list[str], title: str
) -> Figure:
    """The attention on one sentence at several moments, the keys of `maps`, three in a row."""
    rows = -(-len(maps) // 3)
    fig = plt.figure(figsize=(11, 3.6 * rows), layout="constrained")
    axes = [fig.add_subplot(rows, 3, i) for i in range(1, len(maps) + 1)]
    for ax, (moment, weights) in zip(axes, maps.items(), strict=True):
        draw_attention(ax, weights, src, output, bar=False)
        ax.set_title(moment, parse_math=False)
        ax.label_outer()
    fig.colorbar(axes[0].collections[0], ax=axes, label="attention weight", shrink=0.8)
    fig.suptitle(title, parse_math=False)
    return fig


def plot_curves(histories: dict[str, list[dict]], title: str) -> Figure:
    """Training and validation loss, and validation exact match, one colour for each run."""
    fig, (left, right) = plt.subplots(1, 2, figsize=(10, 3.8), layout="constrained")
    for i, (name, history) in enumerate(histories.items()):
        table, colour = pd.DataFrame(history).set_index("epoch"), f"C{i}"
        for column, style in (("train loss", "o-"), ("valid loss", "s--")):
            # the colours are explained on the right
            left.plot(table.index, table[column], style, color=colour, label="" if i else column)
        right.plot(table.index, 100 * table["valid exact match"], "s--", color=colour, label=name)
    left.set(yscale="log", xlabel="epoch", ylabel="loss (nats per token)")
    right.set(xlabel="epoch", ylabel="validation exact match (%)", ylim=(0, 103))
    for ax in (left, right):
        plt.setp(ax.legend().get_texts(), parse_math=False)
        ax.xaxis.get_major_locator().set_params(integer=True)
    fig.suptitle(title, parse_math=False)
    return fig


def plot_by_length(tables: dict[str, pd.DataFrame], title: str, unit: str = "words") -> Figure:
    """Exact match for each length with its 95 % interval, for each of `tables` from `by_length`."""
    fig, ax = plt.subplots(figsize=(9, 4), layout="constrained")
    for i, (name, table) in enumerate(tables.items()):
        share, low, high = (100 * table[column] for column in ("exact match", "low", "high"))
        x = table.index + 0.1 * (i - (len(tables) - 1) / 2)
        ax.errorbar(x, share, [share - low, high - share], fmt="o", capsize=4, label=name)
    ax.set(xlabel=f"length ({unit})", ylabel="exact match (%)", title=title, ylim=(-3, 103))
    ax.set_xticks(table.index)
    if len(tables) > 1:
        plt.setp(ax.legend().get_texts(), parse_math=False)
    return fig
