"""Four tasks, each by its name: where their data come from, and what an answer should be."""

from helpers.tasks.integers import Integers
from helpers.tasks.patterns import Patterns
from helpers.tasks.translation import Translation
from helpers.tasks.words import Words

TASKS = {task.name: task for task in (Words, Integers, Patterns, Translation)}
