"""The process in which a student's functions run: it is given numbers, and returns numbers.

    python -P runner.py [JOB]

JOB is a JSON object: a folder that holds a copy of `helpers` with the functions of one row, in
which the process is to run; the label of the row; folders that must not be read; and the numbers of
the user and group that the process is to become, if any. The numbers to compute with are in
given.pt; for each check that is done there is outcome0.pt, outcome1.pt, ... Without a JOB the
process forks a child for each one that it is sent.

What a student's code must not do here is refused by an audit hook, and limits hold for memory,
time and the size of files. That deters; it is no sandbox. Nothing of value is in this process.
"""

import json
import os
import signal
import subprocess
import sys
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path

import torch

GIB = 2**30
MISSING = "not written yet"
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
REFUSED = ("os.fork", "os.exec", "os.posix_spawn", "os.spawn", "os.system", "os.kill", "pty.spawn")
REFUSED += ("subprocess.", "socket.", "ctypes.", "signal.pthread_kill", "sqlite3.")
REFUSED += ("resource.prlimit",)  # of another process
CHANGES = ("os.remove", "os.rename", "os.rmdir", "os.truncate", "os.link", "os.symlink", "os.mkdir")
CHANGES += ("os.chmod", "os.chown", "shutil.")


def guard(folder: Path, hidden: list[str]) -> None:
    """From here on, as far as Python tells its hooks, this process writes below `folder` only,
    reads nothing `hidden`, and starts no other process.
    """
    open_to_all = [os.path.realpath(path) for path in (folder, sys.prefix, sys.base_prefix)]
    shut = [os.path.realpath(path) for path in hidden]

    def below(path: object, places: list[str]) -> bool:
        if isinstance(path, int):
            return False
        path = os.path.realpath(os.fsdecode(path))
        return any(path == place or path.startswith(place + os.sep) for place in places)

    def hook(event: str, args: tuple, refused=REFUSED, changes=CHANGES, writes=WRITES) -> None:
        if event.startswith(refused):
            raise PermissionError(f"{event} is refused")
        if event == "open" and not isinstance(args[0], int):
            path, _, flags = args
            if flags & writes and not below(path, open_to_all[:1]) and path != os.devnull:
                raise PermissionError("writing outside the folder is refused")
            if os.path.isdir(path) and not below(path, open_to_all[:1]):
                raise PermissionError("a folder, from which paths could go on, is refused")
            if below(path, shut) and not below(path, open_to_all):
                raise PermissionError("reading this file is refused")
        elif event.startswith(changes):
            paths = [path for path in args[:2] if isinstance(path, str | bytes | os.PathLike)]
            if not all(below(path, open_to_all[:1]) for path in paths):
                raise PermissionError(f"{event} outside the folder is refused")

    unheard = [(signal, "pidfd_send_signal"), (os, "pidfd_open"), (os, "setpriority")]
    unheard += [(os, name) for name in dir(os) if name.startswith("sched_set")]
    for module, name in unheard:
        if hasattr(module, name):
            delattr(module, name)  # of which no hook is told
    sys.addaudithook(hook)


def announce() -> None:
    """Lets the audit hook hear of what torch and multiprocessing do past it."""
    write, read = torch._C.PyTorchFileWriter, torch.from_file

    def opened(function):
        def call(path, *args, **options):
            if isinstance(path, str | bytes | os.PathLike):
                sys.audit("open", path, "wb", WRITES)
            return function(path, *args, **options)

        return call

    def refused(*args):
        raise PermissionError("another process is refused")

    torch._C.PyTorchFileWriter, torch.from_file = opened(write), opened(read)
    for module in (subprocess, sys.modules.get("_posixsubprocess")):
        for name in ("fork_exec", "_fork_exec"):
            if hasattr(module, name):
                setattr(module, name, refused)


def limit() -> None:
    """Memory, processor time and file size, where the system knows such limits."""
    with suppress(ImportError):
        import resource

        limits = {"AS": 8 * GIB, "CPU": 60, "FSIZE": 2**26, "CORE": 0}
        for name, value in limits.items():
            with suppress(ValueError, OSError):
                resource.setrlimit(getattr(resource, f"RLIMIT_{name}"), (value, value))


def attempt(trial, numbers: dict) -> dict | str:
    """What came of a trial, or what went wrong, in a line."""
    try:
        outcome = trial({name: value.clone() for name, value in numbers.items()})
        return {name: torch.as_tensor(value).detach().clone() for name, value in outcome.items()}
    except NotImplementedError as error:  # of ours; torch has some, too
        return MISSING if ", section " in str(error) else f"{type(error).__name__}: {error}"[:200]
    except BaseException as error:  # noqa: B036 - SystemExit, too
        return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"


def fork() -> str:
    """Returns the next job, in a child; the parent says that it is ready, and tells the number of
    each and its status. The child's standard input is what was the line to the judge: it cannot
    answer for its parent.
    """
    line = Connection(0)
    line.send_bytes(b"torch is imported")
    while True:
        try:
            job = line.recv_bytes()
        except EOFError:  # no more jobs
            sys.exit()
        child = os.fork()
        if child == 0:
            os.setsid()
            line.close()
            os.open(os.devnull, os.O_RDONLY)  # is number 0 now
            return job.decode()
        line.send_bytes(b"%d" % child)
        line.send_bytes(b"%d" % os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))


def run(folder: str, label: str, hidden: list[str], user: list[int] | None) -> None:
    if user:
        os.setgroups([])
        os.setgid(user[1])
        os.setuid(user[0])
    os.chdir(folder)
    os.environ["HOME"] = folder
    sys.path.insert(0, folder)
    torch.set_default_dtype(torch.float64)
    torch.set_num_threads(1)
    place = Path.cwd()  # a student's code may go elsewhere
    sets = torch.load("given.pt", weights_only=True)
    limit()
    announce()
    guard(place, hidden)
    from helpers.course.rows import BY_LABEL  # not in the process that judges

    for i, check in enumerate(BY_LABEL[label].checks):
        outcomes = [attempt(check.trial, numbers) for numbers in sets]
        torch.save(outcomes, place / f"outcome{i}.part")
        os.replace(place / f"outcome{i}.part", place / f"outcome{i}.pt")


if __name__ == "__main__":
    run(**json.loads(sys.argv[1] if sys.argv[1:] else fork()))
    os._exit(0)  # to take torch down in good order takes longer than most rows
