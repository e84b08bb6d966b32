"""`python -m helpers handout`"""

from helpers.course.handout import add_arguments, run

__all__ = ["add_arguments", "run"]
