"""The door to the command line, `python -m helpers`; what is behind it stands in commands/."""

import sys

if __name__ == "__main__":
    try:  # the imports take some seconds, in which there may be a Ctrl-C, too
        from helpers.commands import main

        sys.exit(main())
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        sys.exit(130)
