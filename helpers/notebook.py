"""Source code and figures on the page of a notebook."""

import inspect

import matplotlib.pyplot as plt
from IPython.display import Code, Markdown, display
from matplotlib.figure import Figure


def show(*objects) -> Code:
    """The source of functions, classes or modules: the code on the page is the code that runs."""
    source = "\n\n\n".join(inspect.getsource(obj).rstrip() for obj in objects)
    return Code(source, language="python")


def show_figure(fig: Figure, number: str, caption: str, alt: str) -> None:
    """The figure, `alt` as the text for whoever cannot see it, and its numbered caption."""
    display(fig, metadata={"image/png": {"alt": alt}})
    plt.close(fig)
    display(Markdown(f"**Figure {number}.** {caption}"))
