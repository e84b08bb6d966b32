"""The encoder-decoder with attention as a picture: what flows where in one step of the decoder."""

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

COLUMNS = (3.5, 5.8, 8.1, 10.4)  # in inches, as all lengths here
TOKENS, EMBEDDINGS, STATES, WEIGHTS, CONTEXT, DECODER, OUTPUT = 0.4, 1.2, 2.1, 3.1, 4.0, 4.9, 5.7
ROWS = (
    (TOKENS, "input sequence", "words $x_1$ to $x_4$"),
    (EMBEDDINGS, "embeddings", "a vector for each word"),
    (STATES, "hidden states", "bidirectional GRU"),
    (WEIGHTS, "attention weights", "positive, their sum is 1"),
    (CONTEXT, "context vector", "the states, weighted and summed"),
    (DECODER, "decoder states", "GRU, begins at $s_0$"),
    (OUTPUT, "output sequence", "each word is fed back"),
)
BLUE, ORANGE, GREEN, GREY = "#0072B2", "#D55E00", "#009E73", "#767676"  # Okabe and Ito's colours


def draw_box(ax: Axes, x: float, y: float, text: str, colour: str, shade: float = 0.15) -> None:
    """A rounded box around `text`, centred on (x, y), filled with `colour` as dense as `shade`."""
    style = {"boxstyle": "round,pad=0,rounding_size=0.08", "ec": colour, "lw": 1.5}
    ax.add_patch(FancyBboxPatch((x - 0.6, y - 0.22), 1.2, 0.44, fc=(colour, shade), **style))
    ax.text(x, y, text, ha="center", va="center", fontsize=12)


def draw_arrow(ax: Axes, start: tuple, end: tuple, colour: str, width: float = 1.5) -> None:
    """A straight arrow between two points."""
    style = {"arrowstyle": "-|>", "mutation_scale": 13, "shrinkA": 0, "shrinkB": 1}
    ax.add_patch(FancyArrowPatch(start, end, color=colour, lw=width, **style))


def draw_encoder(ax: Axes, words: list[str]) -> None:
    """From the words to one hidden state for each of them, read in both directions."""
    for j, (x, word) in enumerate(zip(COLUMNS, words, strict=True), start=1):
        draw_box(ax, x, TOKENS, word, GREY)
        draw_box(ax, x, EMBEDDINGS, f"$E\\,x_{j}$", BLUE)
        draw_box(ax, x, STATES, f"$h_{j}$", BLUE, 0.3)
        draw_arrow(ax, (x, TOKENS + 0.22), (x, EMBEDDINGS - 0.22), GREY)
        draw_arrow(ax, (x, EMBEDDINGS + 0.22), (x, STATES - 0.22), BLUE)
    for left, right in zip(COLUMNS[:-1], COLUMNS[1:], strict=True):
        draw_arrow(ax, (left + 0.6, STATES + 0.1), (right - 0.6, STATES + 0.1), BLUE)
        draw_arrow(ax, (right - 0.6, STATES - 0.1), (left + 0.6, STATES - 0.1), BLUE)


def draw_attention_step(ax: Axes, weights: list[float]) -> None:
    """The weights of the hidden states, as the query asks for them, and the context."""
    query, x_context = COLUMNS[0] - 0.4, COLUMNS[1]
    frame = {"boxstyle": "round,pad=0", "fc": (ORANGE, 0.06), "ec": ORANGE, "ls": ":"}
    ax.add_patch(FancyBboxPatch((2.7, WEIGHTS - 0.34), 8.5, 0.68, **frame))
    for j, (x, weight) in enumerate(zip(COLUMNS, weights, strict=True), start=1):
        draw_arrow(ax, (x, STATES + 0.22), (x, WEIGHTS - 0.22), BLUE)
        target = x_context + 0.3 * (j - 2.3)
        draw_arrow(ax, (x, WEIGHTS + 0.22), (target, CONTEXT - 0.22), ORANGE, 1 + 3 * weight)
        draw_box(ax, x, WEIGHTS, f"$\\alpha_{{t{j}}}$ = {weight:.2f}", ORANGE, 0.6 * weight)
    draw_arrow(ax, (query, DECODER - 0.22), (query, WEIGHTS + 0.34), GREEN)
    ax.text(query + 0.1, CONTEXT + 0.1, "query", va="center", fontsize=10.5)
    draw_box(ax, x_context, CONTEXT, "$c_t$", ORANGE, 0.3)
    draw_arrow(ax, (x_context, CONTEXT + 0.22), (x_context, DECODER - 0.22), ORANGE)


def draw_decoder(ax: Axes, words: list[str]) -> None:
    """One state for each word to write; each word written is fed to the next state."""
    draw_arrow(ax, (2.4, DECODER), (COLUMNS[0] - 0.6, DECODER), GREEN)
    ax.text(COLUMNS[0] + 1.15, OUTPUT + 0.07, "fed back", ha="center", fontsize=10.5)
    for i, (x, word) in enumerate(zip(COLUMNS, words, strict=True)):
        index = ("t-1", "t", "t+1", "t+2")[i]
        draw_box(ax, x, DECODER, f"$s_{{{index}}}$", GREEN, 0.4 if index == "t" else 0.1)
        draw_box(ax, x, OUTPUT, word, GREY, 0.4 if index == "t" else 0.1)
        draw_arrow(ax, (x, DECODER + 0.22), (x, OUTPUT - 0.22), GREEN)
        if i > 0:
            draw_arrow(ax, (COLUMNS[i - 1] + 0.6, DECODER), (x - 0.6, DECODER), GREEN)
            draw_arrow(ax, (COLUMNS[i - 1] + 0.6, OUTPUT), (x - 0.4, DECODER + 0.22), GREY)


def plot_data_flow() -> None:
    """The data flow while the second of four reversed words is written, with invented weights."""
    _, ax = plt.subplots(figsize=(12, 6.5), layout="constrained")
    words = ["the", "cat", "follows", "us"]
    draw_encoder(ax, words)
    draw_attention_step(ax, [0.02, 0.08, 0.85, 0.05])
    draw_decoder(ax, words[::-1])
    for y, name, detail in ROWS:
        ax.text(0.05, y + 0.1, name, va="center", fontsize=12, weight="bold")
        ax.text(0.05, y - 0.13, detail, va="center", fontsize=10.5)
    ax.set(xlim=(0, 11.4), ylim=(0.1, 6), aspect="equal")
    ax.set_title("To write a word, the decoder looks back at all hidden states", size=14, pad=14)
    ax.axis("off")
    plt.show()
