"""`python -m helpers grade`"""

from helpers.course.grading import add_arguments, run

__all__ = ["add_arguments", "run"]
