"""The assignment, in the order of the notebooks, and in folders what goes beyond it.

data, grammar        tokens, vocabulary, batches; an endless supply of sentences (notebook 1)
model                encoder, attention, decoder (2)
optim, training      Adam and clipping; loss, one step, the loop (3)
decoding, metrics    writing word by word; how good is what was written (4)
plotting, notebook   charts; source code and figures on a page (all)
tasks/, models/      integers, patterns, translation; other attentions, cells, architectures
search/, runs/       beam search, copying; settings, checkpoints, GPU, processes, curves, speed
course/              the assignment handed out: student edition, checks, grader
commands/, tests/    `python -m helpers`, a file for each command; the tests
"""

import logging

# On a fresh machine matplotlib, when it is first imported, warns that it collects the fonts.
logging.getLogger("matplotlib.font_manager").setLevel(logging.ERROR)
