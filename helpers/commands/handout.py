"""`python -m helpers handout`"""

from helpers.course.handout import run

__all__ = ["run"]
