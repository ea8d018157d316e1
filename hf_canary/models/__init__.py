"""The paper's models, registered with the Auto classes: `import hf_canary.models`, then load them like any other.

A side house: the demonstration and the command line enter it, the rest of the package sees these models as it sees
any model.
"""

from __future__ import annotations

from pathlib import Path

from transformers import AutoConfig, AutoModel, AutoModelForCausalLM, AutoModelForSeq2SeqLM, AutoTokenizer

from ..errors import ModelError, shown
from .awd_lstm import AWDLSTMConfig, AWDLSTMForCausalLM, AWDLSTMModel
from .cnn import CNNConfig, CNNForCausalLM, CNNModel
from .gru import GRUConfig, GRUForCausalLM, GRUModel
from .lstm import LSTMConfig, LSTMForCausalLM, LSTMModel
from .state_cache import StateCache
from .tokenizers import LosslessTokenizer, character_tokenizer, word_tokenizer
from .translation import RNNForConditionalGeneration, TranslationConfig
from .wavenet import WaveNetConfig, WaveNetForCausalLM, WaveNetModel

__all__ = [
    "AWDLSTMConfig",
    "AWDLSTMForCausalLM",
    "AWDLSTMModel",
    "CNNConfig",
    "CNNForCausalLM",
    "CNNModel",
    "GRUConfig",
    "GRUForCausalLM",
    "GRUModel",
    "LSTMConfig",
    "LSTMForCausalLM",
    "LSTMModel",
    "LosslessTokenizer",
    "RNNForConditionalGeneration",
    "StateCache",
    "TranslationConfig",
    "WaveNetConfig",
    "WaveNetForCausalLM",
    "WaveNetModel",
    "character_tokenizer",
    "config_file",
    "config_names",
    "word_tokenizer",
]


def _register() -> None:
    for model in (LSTMForCausalLM, GRUForCausalLM, CNNForCausalLM, WaveNetForCausalLM, AWDLSTMForCausalLM):
        AutoModel.register(model.config_class, model.body, exist_ok=True)
        AutoModelForCausalLM.register(model.config_class, model, exist_ok=True)
    AutoModelForSeq2SeqLM.register(TranslationConfig, RNNForConditionalGeneration, exist_ok=True)
    for config in (LSTMConfig, GRUConfig, CNNConfig, WaveNetConfig, AWDLSTMConfig, TranslationConfig):
        AutoConfig.register(config.model_type, config, exist_ok=True)
        AutoTokenizer.register(config, fast_tokenizer_class=LosslessTokenizer, exist_ok=True)


_register()


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
    if name not in config_names():
        known = ", ".join(config_names())
        raise ModelError("name", f"one of {known}", shown(name), "Correct the name, or give a config file of your own.")
    return _config_folder() / f"{name}.json"


def config_names() -> list[str]:
    """The architectures that `config_file` knows, in the order of the alphabet.

    Example:
        >>> "gru-2x235" in config_names()
        True
    """
    return sorted(path.stem for path in _config_folder().glob("*.json"))


def _config_folder() -> Path:
    # In a wheel the configs lie in the package, in a checkout beside it.
    package = Path(__file__).parents[1]
    return next(f for f in (package / "model_configs", package.parent / "model_configs") if f.is_dir())
