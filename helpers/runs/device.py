"""What a run stands on: the device and its memory, and the processes that share the work."""

import ctypes
import os
from collections.abc import Iterator
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress

import torch
import torch.distributed as dist
from torch import Tensor, nn


def choose_device(name: str) -> str:
    """Turns "auto" into "cuda" where there is a GPU, into "cpu" elsewhere.

    Raises ValueError for "cuda" if there is none.
    """
    if name == "cuda" and not torch.cuda.is_available():
        raise ValueError("there is no GPU that torch can use: choose another --device")
    return "cuda" if name != "cpu" and torch.cuda.is_available() else "cpu"


def has_half(device: str) -> bool:
    """Whether the device multiplies numbers of 16 bits faster than others."""
    if device == "cuda":
        return True
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()


def use_half(device: str) -> None:
    """Lets mixed precision multiply in `bfloat16` on a GPU that has it: with the exponents of 32
    bits, what it multiplies needs no scale. Elsewhere torch chooses.
    """
    if device == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False):
        torch.set_autocast_dtype(device, torch.bfloat16)


def use_threads(count: int) -> None:
    """Lets torch use so many threads, or as many as there are processors."""
    torch.set_num_threads(min(count, os.cpu_count() or 1))


def hand_back_memory() -> None:
    """Gives the system what is free of the memory of this process. The C library of Linux keeps it,
    in pieces between others, and batches that all differ in shape need more and more of these.
    """
    with suppress(OSError, AttributeError):  # there may be another C library
        ctypes.CDLL("libc.so.6").malloc_trim(0)


@contextmanager
def processes(device: str) -> Iterator[None]:
    """While it lasts, this process works together with the others that `torchrun` has started.

    Without `torchrun` it does nothing, and the process is the only one.
    """
    if not dist.is_torchelastic_launched():
        yield
        return
    if device == "cuda":
        if int(os.environ["LOCAL_RANK"]) >= torch.cuda.device_count():
            raise ValueError(f"more processes than GPUs: {torch.cuda.device_count()}")
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    dist.init_process_group("cpu:gloo,cuda:nccl" if device == "cuda" else "gloo")
    try:
        yield
        dist.barrier()  # nobody leaves before all are done
    finally:
        dist.destroy_process_group()


def rank() -> int:
    """The number of this process, from 0. Only process 0 writes and speaks."""
    return dist.get_rank() if dist.is_initialized() else 0


def world_size() -> int:
    """How many processes work together."""
    return dist.get_world_size() if dist.is_initialized() else 1


def add_up(*numbers: float) -> list[float]:
    """Each of the numbers, summed over all processes."""
    if world_size() == 1:
        return list(numbers)
    sums: Tensor = torch.tensor(numbers, dtype=torch.float64)
    dist.all_reduce(sums)
    return sums.tolist()


def gather(items: list) -> list:
    """The items of all processes."""
    if world_size() == 1:
        return items
    parts = [None] * world_size()
    dist.all_gather_object(parts, items)
    return [item for part in parts for item in part]


def share_gradients(model: nn.Module) -> None:
    """Makes each gradient of a model the sum over all processes, which have the same parameters."""
    if world_size() == 1:
        return
    grads = [param.grad for param in model.parameters() if param.grad is not None]
    sums = torch.cat([grad.flatten() for grad in grads])  # in one message instead of many
    dist.all_reduce(sums)
    for grad, part in zip(grads, sums.split([grad.numel() for grad in grads]), strict=True):
        grad.copy_(part.view_as(grad))


def is_out_of_memory(error: Exception) -> bool:
    """Whether there was not enough of it, on the CPU or a GPU; a process that vanishes was most
    likely ended for that reason. Other mistakes speak of memory, too.
    """
    kinds = MemoryError, BrokenProcessPool
    says = "out of memory" in str(error) or "can't allocate memory" in str(error)
    return isinstance(error, kinds) or says
