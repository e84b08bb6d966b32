"""The encoder-decoder with attention as a picture: what flows where in one step of the decoder."""

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

START, *COLUMNS = 3.15, 5.0, 6.95, 8.9, 10.85  # in inches, as all lengths here
TOKENS, EMBEDDINGS, STATES, WEIGHTS, CONTEXT, DECODER, OUTPUT = 0.3, 1.1, 2.1, 3.2, 4.2, 5.2, 6.2
ROWS = (
    (TOKENS, "input sequence", "words $x_1$ to $x_4$"),
    (EMBEDDINGS, "embeddings", "a vector for each word"),
    (STATES, "hidden states", "GRU in two directions"),
    (WEIGHTS, "attention weights", "positive, their sum is 1"),
    (CONTEXT, "context vector", "weighted sum of all $h_j$"),
    (DECODER, "decoder states", "GRU in one direction"),
    (OUTPUT, "output sequence", "each word is read next"),
)
WIDE, NARROW, HALF = 0.62, 0.42, 0.23  # half the width, and half the height, of a box
BLUE, ORANGE, GREEN, GREY = "#0072B2", "#D55E00", "#007A5A", "#6E6E6E"  # after Okabe and Ito
STEP = 2  # the step that is shown


def draw_box(
    ax: Axes, x: float, y: float, text: str, colour: str, shade: float, half: float = WIDE
) -> None:
    """A rounded box around `text`, centred on (x, y), filled with `colour` as dense as `shade`."""
    style = {"boxstyle": "round,pad=0,rounding_size=0.08", "ec": colour, "lw": 1.5, "zorder": 4}
    corner, size = (x - half, y - HALF), (2 * half, 2 * HALF)
    ax.add_patch(FancyBboxPatch(corner, *size, fc="white", **style))
    ax.add_patch(FancyBboxPatch(corner, *size, fc=(colour, shade), **style))
    ax.text(x, y, text, ha="center", va="center", fontsize=12.5, zorder=5)


def draw_arrow(
    ax: Axes, *points: tuple[float, float], colour: str, width: float = 1.6, level: int = 2
) -> None:
    """An arrow through two or more points; on level 3 it passes over what it crosses."""
    line = {"color": colour, "linewidth": width, "zorder": level}
    if level == 3:
        ax.plot(*zip(*points, strict=True), color="white", linewidth=width + 6, zorder=2.5)
    if len(points) > 2:
        ax.plot(*zip(*points[:-1], strict=True), solid_joinstyle="round", **line)
    head = {"arrowstyle": "-|>", "mutation_scale": 14, "shrinkA": 0, "shrinkB": 0}
    ax.add_patch(FancyArrowPatch(*points[-2:], **head, **line))


def draw_encoder(ax: Axes, words: list[str]) -> None:
    """From the words to one hidden state for each of them, read in both directions, and from the
    two final states to the decoder's first.
    """
    for j, (x, word) in enumerate(zip(COLUMNS, words, strict=True), start=1):
        draw_box(ax, x, TOKENS, word, GREY, 0.1)
        draw_box(ax, x, EMBEDDINGS, f"$E\\,x_{j}$", BLUE, 0.1)
        draw_box(ax, x, STATES, f"$h_{j}$", BLUE, 0.3)
        draw_arrow(ax, (x, TOKENS + HALF), (x, EMBEDDINGS - HALF), colour=GREY)
        draw_arrow(ax, (x, EMBEDDINGS + HALF), (x, STATES - HALF), colour=BLUE, level=3)
    for left, right in zip(COLUMNS[:-1], COLUMNS[1:], strict=True):
        forth, back = STATES + 0.1, STATES - 0.1
        draw_arrow(ax, (left + WIDE, forth), (right - WIDE, forth), colour=BLUE)
        draw_arrow(ax, (right - WIDE, back), (left + WIDE, back), colour=BLUE)


def plot_data_flow() -> Figure:
    """The data flow while the second of four reversed words is written, with invented weights."""
    fig, ax = plt.subplots(figsize=(12, 7), layout="constrained")
    words = ["the", "cat", "follows", "us"]
    draw_encoder(ax, words)
    draw_bridge(ax)
    draw_attention_step(ax, [0.02, 0.08, 0.85, 0.05])
    draw_decoder(ax, words[::-1])
    for y, name, detail in ROWS:
        ax.text(0.05, y + 0.12, name, va="center", fontsize=12.5, weight="bold")
        ax.text(0.05, y - 0.14, detail, va="center", fontsize=11)
    ax.set(xlim=(0, 11.75), ylim=(0, 6.5), aspect="equal")
    ax.set_title("To write a word, the decoder looks back at all hidden states", size=15, pad=12)
    ax.axis("off")
    return fig


def draw_bridge(ax: Axes) -> None:
    """The final states of both directions, and what becomes of them."""
    below = STATES - 0.45
    end = COLUMNS[-1] + WIDE
    forth = [(end, STATES + 0.1), (end + 0.15, STATES + 0.1), (end + 0.15, below)]
    forth += [(START + 0.2, below), (START + 0.2, STATES - HALF)]
    draw_arrow(ax, *forth, colour=BLUE)
    draw_arrow(ax, (COLUMNS[0] - WIDE, STATES - 0.1), (START + WIDE, STATES - 0.1), colour=BLUE)
    draw_box(ax, START, STATES, "final states", BLUE, 0.1)
    draw_arrow(ax, (START, STATES + HALF), (START, DECODER - HALF), colour=GREEN)


def draw_attention_step(ax: Axes, weights: list[float]) -> None:
    """The weights of the hidden states, as the query asks for them, and the context."""
    x_query, x_context = COLUMNS[STEP - 2], COLUMNS[STEP - 1]
    left, right, height = COLUMNS[0] - 0.8, COLUMNS[-1] + 0.8, 0.36
    frame = {"boxstyle": "round,pad=0", "fc": "#FDF4EE", "ec": ORANGE, "ls": ":", "zorder": 1.5}
    ax.add_patch(FancyBboxPatch((left, WEIGHTS - height), right - left, 2 * height, **frame))
    for j, (x, weight) in enumerate(zip(COLUMNS, weights, strict=True), start=1):
        draw_arrow(ax, (x, STATES + HALF), (x, WEIGHTS - HALF), colour=BLUE)
        target = x_context + 0.25 * (j - STEP)
        width = 1 + 3 * weight
        ends = (x, WEIGHTS + HALF), (target, CONTEXT - HALF)
        draw_arrow(ax, *ends, colour=ORANGE, width=width)
        label = f"$\\alpha_{{{STEP}{j}}}$ = {weight:.2f}"
        draw_box(ax, x, WEIGHTS, label, ORANGE, 0.6 * weight)
    draw_arrow(ax, (x_query, DECODER - HALF), (x_query, WEIGHTS + height), colour=GREEN)
    ax.text(x_query - 0.12, CONTEXT, "query", ha="right", va="center", fontsize=11.5)
    draw_box(ax, x_context, CONTEXT, f"$c_{STEP}$", ORANGE, 0.3)
    draw_arrow(ax, (x_context, CONTEXT + HALF), (x_context, DECODER - HALF), colour=ORANGE)
    aside = x_context + 0.52
    draw_arrow(ax, (aside, CONTEXT + HALF), (aside, OUTPUT - HALF), colour=ORANGE, level=3)


def draw_decoder(ax: Axes, words: list[str]) -> None:
    """One state for each word to write; each word written is read in the next step."""
    places = [START, *COLUMNS]
    for t, (x, word) in enumerate(zip(places, ["<bos>", *words], strict=True)):
        shade = 0.4 if t == STEP else 0.1
        draw_box(ax, x, DECODER, f"$s_{t}$", GREEN, shade, NARROW)
        draw_box(ax, x, OUTPUT, word, GREY, shade)
        if t:
            before = places[t - 1]
            draw_arrow(ax, (x, DECODER + HALF), (x, OUTPUT - HALF), colour=GREEN)
            draw_arrow(ax, (before + NARROW, DECODER), (x - NARROW, DECODER), colour=GREEN)
            ends = (before + WIDE, OUTPUT - 0.05), (x - NARROW + 0.05, DECODER + HALF)
            draw_arrow(ax, *ends, colour=GREY)
