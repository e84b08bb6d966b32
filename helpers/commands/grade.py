"""`python -m helpers grade`"""

from helpers.course.grading import run

__all__ = ["run"]
