"""The door to the command line, `python -m helpers`; what is behind it stands in commands/."""

import sys

from helpers.commands import main

if __name__ == "__main__":
    sys.exit(main())
