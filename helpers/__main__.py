"""The door to the command line, `python -m helpers`; what is behind it stands in commands/."""

import os
import signal
import sys


def stop(*_) -> None:
    """Ends the process at a Ctrl-C in the middle of an import, which may swallow an exception."""
    os.write(2, b"stopped\n")
    os._exit(130)


if __name__ == "__main__":
    before = signal.getsignal(signal.SIGINT)  # it may be ignored
    signal.signal(signal.SIGINT, stop if before is signal.default_int_handler else before)
    # what torch keeps of bfloat16 products of so many shapes each, not of 1,024: gigabytes
    for cache in ("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "LRU_CACHE_CAPACITY"):
        os.environ.setdefault(cache, "32")
    from helpers.commands import main

    sys.exit(main(ready=lambda: signal.signal(signal.SIGINT, before)))
