"""How every command meets its user: one line for each mistake, and an output that may go wrong."""

import os
import sys
import threading
from collections.abc import Callable
from contextlib import suppress

FIRST = os.environ.get("RANK", "0") == "0"  # of the processes that torchrun started, or alone


def log(message: str) -> None:
    """Writes a line to stderr; nobody may be listening."""
    if FIRST and sys.stderr is not None:
        with suppress(OSError):
            print(message, file=sys.stderr, flush=True)


def one_line(message: object) -> str:
    return " ".join(str(message).split())


def guarded(run: Callable[[], None], name: str, way_on: str = "") -> int:
    """Calls `run` and returns the exit status. Whatever stops it that is no fault of ours becomes
    one line on stderr, with the `name` of the command, or with the `way_on` after a stop.
    """
    if sys.stdout is None:
        log(f"{name}: there is no standard output to write to")
        return 2
    sys.stdout.reconfigure(encoding="utf-8", errors="surrogateescape")  # names of files come back
    try:
        run()
        sys.stdout.flush()
    except BrokenPipeError:  # the reader, `head` perhaps, has had enough
        forget_output()
        if way_on:
            log(f"nobody reads the output any more: stopped{way_on}")
            return 2
    except (OSError, ValueError, FloatingPointError) as error:
        named = isinstance(error, OSError) and error.filename is not None
        reason = f"{error.filename}: {error.strerror}" if named else error
        if isinstance(error, UnicodeEncodeError):
            reason = f"{error.object!r} is not UTF-8 text"
        log(f"{name}: {one_line(reason)}")
        forget_output()
        return 2
    except (MemoryError, RuntimeError) as error:
        from helpers.runs.device import is_out_of_memory  # here, since it needs torch

        if FIRST and not is_out_of_memory(error):
            raise
        advice = ": try a smaller model or batch, or --accumulate" if way_on else ""
        log(f"{name}: out of memory{advice}")
        return 2
    except KeyboardInterrupt:
        log(f"stopped{way_on}")
        return 130
    return 0


def forget_output() -> None:
    """Sends what could not be written, if there is any, to nowhere, lest Python try it again."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def quiet(args) -> None:
    """For an error in a thread. When TensorBoard's cannot write, ours is told as well."""
    if not issubclass(args.exc_type, OSError):
        threading.__excepthook__(args)
