"""`python -m helpers check`"""

from helpers.course.check import add_arguments, run

__all__ = ["add_arguments", "run"]
