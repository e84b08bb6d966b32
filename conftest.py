"""What `pytest --nbval` needs to know. It runs the notebooks and the tests in helpers/tests."""

import os

# A progress bar is for people: it shows times, and a stored output must not.
os.environ["TQDM_DISABLE"] = "1"
