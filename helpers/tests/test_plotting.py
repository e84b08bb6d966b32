"""The charts show the numbers that they are given, and nothing is drawn on another figure."""

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from matplotlib.image import imread

from helpers.metrics import by_length
from helpers.models.diagram import plot_data_flow
from helpers.plotting import (
    draw_attention,
    plot_attention,
    plot_attention_growth,
    plot_by_length,
    plot_curves,
)

SRC, OUTPUT = ["the", "cat", "sat", "<pad>"], ["sat", "cat", "<eos>"]
WEIGHTS = torch.tensor([[0.0, 0.1, 0.9, 0.0], [0.2, 0.5, 0.3, 0.0], [1.0, 0.0, 0.0, 0.0]])
HISTORY = [
    {"epoch": 1, "train loss": 3.0, "valid loss": 2.0, "valid exact match": 0.1},
    {"epoch": 2, "train loss": 1.0, "valid loss": 1.5, "valid exact match": 0.25},
    {"epoch": 3, "train loss": 0.5, "valid loss": 0.7, "valid exact match": 1.0},
]


@pytest.fixture(autouse=True)
def no_window():
    before = matplotlib.get_backend()
    plt.switch_backend("agg")
    yield
    plt.close("all")
    plt.switch_backend(before)


def labels(axis):
    return [label.get_text() for label in axis.get_ticklabels()]


def assert_heatmap(ax, weights, src, output, named=True):
    """The mesh has the weights on a scale from 0 to 1; the first output word is on top."""
    (mesh,) = ax.collections
    assert np.array_equal(mesh.get_array().reshape(weights.shape), np.asarray(weights))
    assert mesh.get_clim() == (0, 1)
    assert ax.get_ylim() == (len(output), 0) and ax.get_xlim() == (0, len(src))
    if named:
        assert labels(ax.xaxis) == src and labels(ax.yaxis) == output
        assert list(ax.get_xticks()) == [i + 0.5 for i in range(len(src))]
        assert list(ax.get_yticks()) == [i + 0.5 for i in range(len(output))]
        assert ax.get_xlabel() == "encoder: source word"
        assert ax.get_ylabel() == "decoder: output word"
    colours = mesh.cmap([0.0, 1.0])[:, :3].sum(axis=1)
    assert colours[0] > 2.8 and colours[0] > colours[1], "white is nothing, dark is much"
    assert ax.get_aspect() == 1


@pytest.mark.parametrize("bar", [True, False])
def test_one_heatmap(bar):
    fig, ax = plt.subplots()
    draw_attention(ax, WEIGHTS, SRC, OUTPUT, bar)
    assert_heatmap(ax, WEIGHTS, SRC, OUTPUT)
    others = [other for other in fig.axes if other is not ax]
    assert [other.get_ylabel() for other in others] == bar * ["attention weight"]
    for other in others:
        assert other.get_ylim() == (0, 1)


def test_the_attention_of_one_sentence_is_saved_as_it_is_shown(tmp_path):
    path = tmp_path / "map.png"
    fig = plot_attention(WEIGHTS, SRC, OUTPUT, "It looks back", str(path))
    ax, bar = fig.axes
    assert_heatmap(ax, WEIGHTS, SRC, OUTPUT)
    assert ax.get_title() == "It looks back" and bar.get_ylabel() == "attention weight"
    assert all(label.get_rotation() == 45 for label in ax.get_xticklabels())
    assert all(label.get_rotation() == 0 for label in ax.get_yticklabels())
    width, height = fig.get_size_inches() * 120
    image = imread(path)
    assert image.shape[:2] == (round(height), round(width))
    fig.set_dpi(120)
    fig.canvas.draw()
    shown = np.asarray(fig.canvas.buffer_rgba())[..., :3] / 255
    assert np.abs(image[..., :3] - shown).max() < 0.01


def test_without_a_path_nothing_is_saved(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    plot_attention(WEIGHTS, SRC, OUTPUT, "It looks back")
    assert not [*tmp_path.iterdir()]


def test_the_source_may_be_given_twice_the_same_word():
    fig = plot_attention(WEIGHTS, ["a", "a", "b", "b"], ["b", "b", "a"], "")
    assert_heatmap(fig.axes[0], WEIGHTS, ["a", "a", "b", "b"], ["b", "b", "a"])


def test_how_attention_grows():
    """Four moments, in the order in which they are given, three in a row; one bar is enough."""
    maps = {f"step {10 * i}": WEIGHTS * i / 4 for i in (4, 1, 3, 2)}
    fig = plot_attention_growth(maps, SRC, OUTPUT, "It is born")
    charts = [ax for ax in fig.axes if ax.collections and ax.get_xlim() == (0, 4)]
    assert [ax.get_title() for ax in charts] == [*maps]
    for ax, weights in zip(charts, maps.values(), strict=True):
        assert_heatmap(ax, weights, SRC, OUTPUT, named=False)
    assert [ax.get_ylabel() for ax in fig.axes].count("attention weight") == 1
    assert labels(charts[0].yaxis) == labels(charts[3].yaxis) == OUTPUT
    assert labels(charts[3].xaxis) == SRC
    assert fig.get_suptitle() == "It is born"
    places = [ax.get_subplotspec() for ax in charts]
    rows_and_columns = [(place.rowspan.start, place.colspan.start) for place in places]
    assert rows_and_columns == [(0, 0), (0, 1), (0, 2), (1, 0)]


def test_the_words_stand_below_the_lowest_map_of_each_column():
    maps = dict.fromkeys("abcdef", WEIGHTS)
    charts = [ax for ax in plot_attention_growth(maps, SRC, OUTPUT, "").axes if ax.get_title()]
    assert [ax.get_xlabel() != "" for ax in charts] == [False] * 3 + [True] * 3
    assert [ax.get_ylabel() != "" for ax in charts] == [True, False, False] * 2


def test_curves_have_the_points_of_their_histories():
    """One colour for each run, which the right half explains; two styles, which the left does."""
    other = [{name: value / 2 for name, value in record.items()} for record in HISTORY[:2]]
    histories = {"GRU": HISTORY, "LSTM": [r | {"epoch": i} for i, r in enumerate(other, start=1)]}
    fig = plot_curves(histories, "Both learn")
    left, right = fig.axes
    assert fig.get_suptitle() == "Both learn"
    losses, scores = iter(left.get_lines()), iter(right.get_lines())
    colours, styles = [], []
    for history in histories.values():
        epochs = [record["epoch"] for record in history]
        of_run = [next(losses), next(losses), next(scores)]
        for line in of_run:
            assert list(line.get_xdata()) == epochs
        for line, part in zip(of_run, ("train loss", "valid loss"), strict=False):
            assert list(line.get_ydata()) == [record[part] for record in history]
        percents = [100 * record["valid exact match"] for record in history]
        assert list(of_run[2].get_ydata()) == percents
        colours.append({line.get_color() for line in of_run})
        styles.append(tuple(line.get_linestyle() for line in of_run[:2]))
    assert not [*losses, *scores]
    assert [len(colour) for colour in colours] == [1, 1] and colours[0] != colours[1]
    assert styles[0] == styles[1] and len(set(styles[0])) == 2
    legends = [[text.get_text() for text in ax.get_legend().get_texts()] for ax in fig.axes]
    assert [label.replace("GRU: ", "") for label in legends[0][:2]] == ["train loss", "valid loss"]
    assert legends[1] == [*histories]
    assert left.get_yscale() == "log" and right.get_ylim() == (0, 103)
    assert left.get_xlabel() == right.get_xlabel() == "epoch"
    assert left.get_ylabel() == "loss (nats per token)"
    assert right.get_ylabel() == "validation exact match (%)"


def test_epochs_are_whole_numbers():
    fig = plot_curves({"GRU": HISTORY}, "")
    fig.canvas.draw()
    for ax in fig.axes:
        assert all(tick == int(tick) for tick in ax.get_xticks())


def test_exact_match_by_length_with_its_intervals():
    tables = {
        "plain": by_length([True, False, True, True, False], [2, 2, 1, 4, 4]),
        "other": by_length([True, True, True], [1, 2, 4]),
    }
    fig = plot_by_length(tables, "It falls with length", unit="digits")
    (ax,) = fig.axes
    assert ax.get_title() == "It falls with length" and ax.get_ylim() == (-3, 103)
    assert ax.get_xlabel() == "length (digits)" and ax.get_ylabel() == "exact match (%)"
    assert list(ax.get_xticks()) == [1, 2, 4]
    assert [text.get_text() for text in ax.get_legend().get_texts()] == [*tables]
    assert len(ax.containers) == 2
    for container, table, shift in zip(ax.containers, tables.values(), (-0.05, 0.05), strict=True):
        points, _, (bars,) = container
        assert points.get_xdata() == pytest.approx(table.index + shift)
        assert points.get_ydata() == pytest.approx(100 * table["exact match"])
        assert points.get_linestyle() == "None", "lengths in between have no value"
        for (low, high), segment in zip(
            table[["low", "high"]].to_numpy(), bars.get_segments(), strict=True
        ):
            assert segment[:, 1] == pytest.approx([100 * low, 100 * high])


def test_one_table_needs_no_legend():
    (ax,) = plot_by_length({"plain": by_length([True], [3])}, "").axes
    assert ax.get_legend() is None and ax.get_xlabel() == "length (words)"
    points, _, _ = ax.containers[0]
    assert points.get_xdata() == [3]


@pytest.mark.parametrize(
    "plot",
    [
        lambda: plot_attention(WEIGHTS, SRC, OUTPUT, ""),
        lambda: plot_attention_growth({"": WEIGHTS}, SRC, OUTPUT, ""),
        lambda: plot_curves({"GRU": HISTORY}, ""),
        lambda: plot_by_length({"": by_length([True], [3])}, ""),
        plot_data_flow,
    ],
)
def test_each_returns_a_figure_of_its_own_and_shows_nothing(plot, monkeypatch):
    monkeypatch.setattr(plt, "show", lambda: pytest.fail("it was shown"))
    before = plt.figure()
    fig = plot()
    assert isinstance(fig, matplotlib.figure.Figure) and fig is not before and not before.axes
    assert plt.get_fignums() == [before.number, fig.number]


def test_no_text_of_the_data_flow_is_cut_off():
    """The architecture has all of its parts: <bos>, the first state, weights, context, output."""
    fig = plot_data_flow()
    (ax,) = fig.axes
    fig.canvas.draw()
    texts = [text for text in ax.texts if text.get_text()]
    said = " ".join(text.get_text() for text in texts)
    assert {"<bos>", "query"} <= {text.get_text() for text in texts}
    parts = ["s_0", "s_{0}", "h_1", "h_4", "c_", r"\alpha", "input sequence", "hidden states"]
    parts += ["attention weights", "context vector", "decoder states", "output sequence"]
    assert [part for part in parts if part not in said] in (["s_0"], ["s_{0}"])
    frame = fig.bbox
    for text in texts:
        box = text.get_window_extent()
        assert frame.x0 <= box.x0 and box.x1 <= frame.x1, text.get_text()
        assert frame.y0 <= box.y0 and box.y1 <= frame.y1, text.get_text()
