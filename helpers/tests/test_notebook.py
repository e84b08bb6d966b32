"""What a notebook puts on its page: source code as it is, figures with a caption and a text."""

import inspect
from unittest import mock

import matplotlib
import matplotlib.pyplot as plt
import pytest
from IPython.display import Code, Markdown
from IPython.utils.capture import capture_output

from helpers import model, notebook
from helpers.model import AdditiveAttention, look_up
from helpers.notebook import show, show_figure


def test_the_source_of_a_function_and_of_a_class():
    shown = show(look_up)
    assert isinstance(shown, Code) and shown.language == "python"
    assert shown.data == inspect.getsource(look_up).rstrip()
    both = show(AdditiveAttention, look_up).data
    assert both == "\n\n\n".join(
        inspect.getsource(obj).rstrip() for obj in (AdditiveAttention, look_up)
    )
    assert both.startswith("class AdditiveAttention(nn.Module):")
    assert "\ndef look_up(energy" in both and not both.endswith("\n")


def test_the_source_of_a_module_is_its_file():
    with open(model.__file__, encoding="utf-8") as file:
        assert show(model).data == file.read().rstrip()


def test_the_source_stays_text_in_every_form_of_a_page():
    """Monospaced in HTML and in LaTeX, unchanged as plain text: that is what nbval compares."""
    source = inspect.getsource(look_up).rstrip()
    shown = show(look_up)
    assert source in repr(shown)
    html = shown._repr_html_()
    assert "<pre>" in html and "look_up" in html and 'class="n' in html, "with colours"
    assert shown._repr_latex_().startswith(r"\begin{Verbatim}")


@pytest.fixture
def page():
    """What is displayed, instead of on a page."""
    before = matplotlib.get_backend()
    plt.switch_backend("agg")
    with mock.patch.object(notebook, "display") as display:
        yield display
    plt.close("all")
    plt.switch_backend(before)


def test_a_figure_its_alternative_text_and_its_caption(page):
    plt.close("all")  # those of other tests
    fig, _ = plt.subplots()
    show_figure(fig, "2.3", "Weights of one sentence.", "A heatmap with a dark diagonal.")
    picture, caption = page.call_args_list
    assert picture.args == (fig,)
    text = {"image/png": {"alt": "A heatmap with a dark diagonal."}}
    assert picture.kwargs == {"metadata": text}
    assert isinstance(caption.args[0], Markdown)
    assert caption.args[0].data == "**Figure 2.3.** Weights of one sentence."
    assert not plt.get_fignums(), "it is closed, so that it is not shown twice"


def test_only_its_own_figure_is_closed(page):
    other, (fig, _) = plt.figure(), plt.subplots()
    show_figure(fig, "1.1", "One.", "Two.")
    assert plt.get_fignums() == [other.number]


def test_the_text_is_in_the_metadata_of_the_output():
    """As the notebook's file has it, from where an exported page takes it."""
    from IPython.core.interactiveshell import InteractiveShell
    from IPython.core.pylabtools import select_figure_formats

    shell = InteractiveShell.instance()
    before = matplotlib.get_backend()
    try:
        plt.switch_backend("agg")
        select_figure_formats(shell, {"png"})
        shell.display_formatter.active_types = shell.display_formatter.format_types
        with capture_output() as captured:
            show_figure(plt.subplots(figsize=(1, 1))[0], "1.1", "A caption.", "A text.")
    finally:
        plt.switch_backend(before)
        InteractiveShell.clear_instance()
    picture, caption = captured.outputs
    assert picture.metadata["image/png"]["alt"] == "A text." and "image/png" in picture.data
    assert caption.data["text/markdown"] == "**Figure 1.1.** A caption."
