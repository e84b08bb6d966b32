"""`python -m helpers check`"""

from helpers.course.check import run

__all__ = ["run"]
