"""A device without float64, played on the processor: as Apple's, where a tensor of 64-bit floats is an error.

Tensors on it are of a class of their own, whose numbers lie in ordinary memory. What makes or moves tensors is told by
`as_on_apple` which of them are there.
"""

import copy

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_flatten, tree_map

DEVICE = torch.device("mps", 0)
CPU = torch.device("cpu")


class OnApple(torch.Tensor):
    """A tensor that is there."""


class as_on_apple(TorchFunctionMode):
    """While it stands, tensors may be made there, computed with, and moved to the processor and back."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        flat, _ = tree_flatten((args, kwargs))
        is_there = any(isinstance(each, OnApple) for each in flat)
        if func == torch.Tensor.device.__get__:
            return DEVICE if is_there else func(*args)
        if func is torch.Tensor.numpy and is_there:
            raise TypeError("can't convert mps:0 device type tensor to numpy")
        asked = [each for each in map(_device, flat) if each is not None]
        goes_there = asked[-1].type == DEVICE.type if asked else is_there and func is not torch.Tensor.cpu
        args, kwargs = tree_map(lambda each: CPU if _device(each) is not None else each, (args, kwargs))
        # Another tensor's device is asked for by `to(other)`.
        result = func(*args, **kwargs)
        return tree_map(lambda each: _placed(each, goes_there), result)


def _device(value):
    """The device that an argument names."""
    if isinstance(value, str) and value.split(":")[0] in ("cpu", DEVICE.type):
        value = torch.device(value)
    return value if isinstance(value, torch.device) else None


def _placed(value, is_there):
    if not isinstance(value, torch.Tensor):
        return value
    if is_there and value.dtype == torch.float64:
        raise TypeError("Cannot convert a MPS Tensor to float64 dtype as the MPS framework doesn't support float64.")
    kind = OnApple if is_there else torch.Tensor
    return value if type(value) is kind else value.as_subclass(kind)


def moved_to_apple(model):
    """A copy of a model whose weights and buffers are there."""
    model = copy.deepcopy(model)
    for module in model.modules():
        for name, parameter in module._parameters.items():
            if parameter is not None:
                module._parameters[name] = torch.nn.Parameter(parameter.detach().as_subclass(OnApple))
        for name, buffer in module._buffers.items():
            if buffer is not None:
                module._buffers[name] = buffer.as_subclass(OnApple)
    return model
