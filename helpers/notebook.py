"""Shows the source of a helper in a notebook: the code on the page is the code that runs."""

import inspect

from IPython.display import Markdown


def show(*objects) -> Markdown:
    """The source of functions, classes or modules, as highlighted code."""
    source = "\n\n".join(inspect.getsource(obj).rstrip() for obj in objects)
    return Markdown(f"```python\n{source}\n```")
