"""Initial weights that train: of the order of 1/√fan, not 0.02 everywhere. The same for every model here."""

from __future__ import annotations

import torch
from torch import nn
from transformers import initialization as init


@torch.no_grad()
def initialise(module: nn.Module, *, embedding_deviation: float = 1.0, convolution_gain: float = 1.0) -> None:
    """Draw one module's own weights; biases are 0, but that an LSTM's forget gate starts open.

    Args:
        module: any; what is not of a known kind is left as it is.
        embedding_deviation: standard deviation of embeddings.
        convolution_gain: of a convolution's outputs over its inputs, both as standard deviations.
    """
    if isinstance(module, nn.Embedding):
        init.normal_(module.weight, std=embedding_deviation)
    elif isinstance(module, nn.Linear):
        _uniform(module, module.in_features**-0.5)
    elif isinstance(module, nn.Conv1d):
        _uniform(module, convolution_gain * (3.0 / module.weight[0].numel()) ** 0.5)
    elif isinstance(module, (nn.LSTM, nn.GRU)):
        _recurrent(module)


def _uniform(module: nn.Linear | nn.Conv1d, bound: float) -> None:
    init.uniform_(module.weight, -bound, bound)
    if module.bias is not None:
        init.zeros_(module.bias)


def _recurrent(module: nn.LSTM | nn.GRU) -> None:
    """Weights uniform in ±1/√units; an LSTM's forget gate at 1 (Józefowicz, Zaremba and Sutskever 2015)."""
    units = module.hidden_size
    for name, parameter in module.named_parameters():
        if name.startswith("weight"):
            init.uniform_(parameter, -(units**-0.5), units**-0.5)
        else:
            bias = torch.zeros_like(parameter)
            if isinstance(module, nn.LSTM):
                # Gates stand in the order input, forget, cell, output; the two biases of a layer are added.
                bias[units : 2 * units] = 0.5
            init.copy_(parameter, bias)
