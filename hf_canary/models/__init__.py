"""The paper's models, registered with the Auto classes: `import hf_canary.models`, then load them like any other.

A side house: the rest of the package sees these models as it sees any model, and never imports this one.
"""

from __future__ import annotations

from pathlib import Path

from transformers import AutoConfig, AutoModelForCausalLM

from ..errors import ModelError, shown
from .cnn import CNNConfig, CNNForCausalLM
from .gru import GRUConfig, GRUForCausalLM
from .lstm import LSTMConfig, LSTMForCausalLM
from .state_cache import StateCache
from .tokenizers import character_tokenizer
from .wavenet import WaveNetConfig, WaveNetForCausalLM

__all__ = ["LSTMConfig", "LSTMForCausalLM", "StateCache", "character_tokenizer", "config_file"]

for model in (LSTMForCausalLM, GRUForCausalLM, CNNForCausalLM, WaveNetForCausalLM):
    AutoConfig.register(model.config_class.model_type, model.config_class, exist_ok=True)
    AutoModelForCausalLM.register(model.config_class, model, exist_ok=True)


def config_file(name: str) -> Path:
    """The JSON file of one of the paper's architectures, for `AutoConfig.from_pretrained`.

    Args:
        name: such as `lstm-2x200`.

    Raises:
        ModelError: no such architecture; the error lists those that there are.

    Example:
        >>> from transformers import AutoConfig
        >>> AutoConfig.from_pretrained(config_file("lstm-2x200")).hidden_size
        200
    """
    package = Path(__file__).parents[1]
    # In a wheel the configs lie in the package, in a checkout beside it.
    folder = next(f for f in (package / "model_configs", package.parent / "model_configs") if f.is_dir())
    file = folder / f"{name}.json"
    if not file.is_file():
        known = ", ".join(sorted(path.stem for path in folder.glob("*.json")))
        raise ModelError("name", f"one of {known}", shown(name), "Correct the name, or give a config file of your own.")
    return file
