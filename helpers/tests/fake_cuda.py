"""A GPU that is none: tensors that say "cuda", count in the memory of the CPU, and refuse to meet
others. Whatever runs on these names its device everywhere, and it is known where it waits.

What is not tried so: the kernels of a GPU, what they round, and whether anything is faster.
"""

from contextlib import ExitStack, contextmanager
from unittest import mock

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing
from torch.utils._pytree import tree_leaves, tree_map

CPU, CUDA = torch.device("cpu"), torch.device("cuda", 0)
ASKED = torch.device("cpu", 0)  # by the code; to C++, all tensors are on a CPU without a number
READS = "_local_scalar_dense", "nonzero", "masked_select", "equal"  # numbers that Python asks for
SIZES = "_pack_padded_sequence", "_pack_padded_sequence_backward", "_pad_packed_sequence"


class OnCuda(Tensor):
    """A tensor that says it is on the GPU; its numbers are in `inner`."""

    def __new__(cls, inner):
        layout = {"strides": inner.stride(), "storage_offset": inner.storage_offset()}
        return cls._make_wrapper_subclass(cls, inner.shape, dtype=inner.dtype, **layout)

    def __init__(self, inner):
        self.inner = inner

    device, is_cuda = property(lambda self: CUDA), property(lambda self: True)
    __torch_function__ = torch._C._disabled_torch_function_impl

    @classmethod
    def __torch_dispatch__(cls, operation, types, args=(), kwargs=None):
        raise AssertionError(f"{operation} after the end of the fake GPU")

    def __repr__(self):
        return f"OnCuda({self.inner})"

    def tolist(self):
        return self.cpu().tolist()

    def numpy(self):
        raise TypeError("can't convert cuda:0 device type tensor to numpy")


def move(tensor, *args, copy=False, **kwargs):
    """`Tensor.to`, whose original looks for a real GPU."""
    if args and isinstance(args[0], Tensor):
        args = args[0].device, args[0].dtype
    device, dtype, non_blocking, _ = torch._C._nn._parse_to(*args, **kwargs)
    device, dtype = device or tensor.device, dtype or tensor.dtype
    if (device.type, dtype) == (tensor.device.type, tensor.dtype) and not copy:
        return tensor
    device = ASKED if device.type == "cpu" else CUDA
    options = {"dtype": dtype, "device": device, "non_blocking": non_blocking}
    return torch.ops.aten._to_copy.default(tensor, **options)


class Calls(TorchFunctionMode):
    """Knows whether the function of torch that is running was given something on the GPU: a tensor
    of numbers that it makes for itself is there, too, though to C++ all are on the CPU.
    """

    with_cuda = False

    def __torch_function__(self, function, types, args=(), kwargs=None):
        before, kwargs = self.with_cuda, kwargs or {}
        self.with_cuda = any(isinstance(leaf, OnCuda) for leaf in tree_leaves((args, kwargs)))
        try:
            return function(*args, **kwargs)
        finally:
            self.with_cuda = before


class FakeGPU(TorchDispatchMode):
    """While it lasts, sees each operation. `waits` lists those for which the CPU waits until the
    GPU has done all that it was told. Raises RuntimeError where tensors of both meet.
    """

    def __init__(self):
        super().__init__()
        self.waits, self.pinned = [], {}
        self.calls = Calls()

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        name = operation._schema.name.removeprefix("aten::")
        if name == "is_pinned":
            return args[0].data_ptr() in self.pinned
        if name == "_pin_memory":
            copy = args[0].clone()
            self.pinned[copy.data_ptr()] = copy  # kept, lest another get its place
            return copy
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        on = [isinstance(tensor, OnCuda) for tensor in tensors]
        device = kwargs.get("device") or (CUDA if any(on) else CPU)
        if "device" in kwargs:
            kwargs["device"] = CPU
            dtype = kwargs.get("dtype") or (tensors or [torch.empty(0)])[0].dtype
            if name == "_to_copy":
                device = CUDA if any(on) and device == CPU else device
            elif self.calls.with_cuda and dtype.is_floating_point:
                device = CUDA
        self.look(name, tensors, on, device, kwargs if name == "_to_copy" else args)
        out = operation(*tree_map(inner, args), **tree_map(inner, kwargs))
        if device.type == "cpu":
            return out
        if name in SIZES and isinstance(out, tuple):
            return OnCuda(out[0]), out[1]
        out = tree_map(lambda x: OnCuda(x) if isinstance(x, Tensor) else x, out)
        return return_and_correct_aliasing(operation, args, kwargs, out)

    def look(self, name, tensors, on, device, given):
        """Notes down who waits; raises RuntimeError for tensors that must not meet."""
        if name == "_to_copy":
            if on[0] != (device.type == "cuda"):
                self.copy(tensors[0], on[0], given.get("non_blocking"))
        elif name == "copy_":
            if on[0] != on[1]:
                self.copy(tensors[1], on[1], len(given) > 2 and given[2])
        elif name in SIZES:
            if on[1]:
                raise RuntimeError(f"{name}: torch wants the lengths on the CPU")
        elif any(on):
            if name in READS:
                self.waits.append(name)
            elif name in ("index", "index_put", "index_put_", "_index_put_impl_") and on[0]:
                if any(index.dtype == torch.bool for index in tensors[1:]):
                    self.waits.append("where is it True")
                on = [
                    *on[:1],
                    *(o for o, index in zip(on[1:], tensors[1:], strict=True) if index.dim()),
                ]
            if not all(o or not tensor.dim() for o, tensor in zip(on, tensors, strict=False)):
                raise RuntimeError(f"{name}: expected all tensors to be on the same device")

    def copy(self, tensor, to_cpu, non_blocking):
        """A copy between the two: nobody waits for one from pinned memory that need not be there
        at once.
        """
        if to_cpu or not (non_blocking and tensor.data_ptr() in self.pinned):
            self.waits.append(f"copy to the {'CPU' if to_cpu else 'GPU'}")


def inner(x):
    return x.inner if isinstance(x, OnCuda) else x


@contextmanager
def fake_cuda(bfloat16=True):
    """While it lasts, torch has a GPU, one that multiplies `bfloat16` or not."""
    real = {"tensor": torch.tensor, "autocast": torch.autocast, "save": torch.save}
    module_to = nn.Module.to

    def tensor(values, *, device=None, **options):
        new = real["tensor"](values, **options)
        return new.to(device) if device else new

    def autocast(device, dtype=None, **options):  # of tensors that are on the CPU after all
        return real["autocast"]("cpu", dtype or torch.get_autocast_dtype(device), **options)

    def save(content, file):
        real["save"](tree_map(lambda x: x.cpu() if isinstance(x, OnCuda) else x, content), file)

    def to(module, *args, **kwargs):  # the parameters stay the same objects, as on a GPU
        torch.__future__.set_swap_module_params_on_conversion(True)
        try:
            return module_to(module, *args, **kwargs)
        finally:
            torch.__future__.set_swap_module_params_on_conversion(False)

    patches = [
        (nn.Module, "to", to),
        (torch, "save", save),
        (Tensor, "to", move),
        (Tensor, "cpu", lambda self: self.to("cpu")),
        (Tensor, "cuda", lambda self: self.to("cuda")),
        (torch, "tensor", tensor),
        (torch, "autocast", autocast),
        (torch.cuda, "_lazy_init", lambda: None),
        (torch.cuda, "is_available", lambda: True),
        (
            torch.cuda,
            "is_bf16_supported",
            lambda including_emulation=True: bfloat16 or including_emulation,
        ),
        (torch.backends.cudnn, "is_acceptable", lambda tensor: False),
    ]
    half = torch.get_autocast_dtype("cuda")
    try:
        with ExitStack() as stack:
            for owner, name, new in patches:
                stack.enter_context(mock.patch.object(owner, name, new))
            gpu = FakeGPU()
            stack.enter_context(gpu)
            stack.enter_context(gpu.calls)
            yield gpu
    finally:
        torch.set_autocast_dtype("cuda", half)
