"""From a folder or a Hub id to a model and its tokenizer: a checkpoint, or an adapter on its base.

Weights come from safetensors alone, and code of others runs only where that is allowed. Errors call what is loaded
MODEL, as the commands do. Calls no model.
"""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers.utils import cached_file

from ..arguments import is_folder
from ..errors import CanaryError, ModelError, shown
from ..runtime.json_text import read_json

_ADAPTER, _ADAPTER_WEIGHTS = "adapter_config.json", "adapter_model.safetensors"


def file_beside(name: str, file: str) -> Path | None:
    """A file beside the weights of a model, by its folder or Hub id; None if there is none, or no such model."""
    if is_folder(name):
        return Path(name) / file if (Path(name) / file).is_file() else None
    try:
        found = cached_file(
            name,
            file,
            _raise_exceptions_for_gated_repo=False,
            _raise_exceptions_for_missing_entries=False,
            _raise_exceptions_for_connection_errors=False,
        )
    except OSError:  # a name that is none: whoever loads the model says so
        found = None
    return None if found is None else Path(found)


@dataclass(frozen=True)
class Adapter:
    """An adapter as peft saves it.

    Args:
        name: its folder or Hub id.
        base: those of the model that it is put on.
        revision: of the base; None for the newest.
        weights: its file.
    """

    name: str
    base: str
    revision: str | None
    weights: Path


def adapter_at(name: str) -> Adapter | None:
    """The adapter under a name; None where there is none.

    Raises:
        ModelError: one that cannot be loaded: without peft, a base that is none itself, or weights in safetensors.
    """
    config = file_beside(name, _ADAPTER)
    if config is None:
        return None
    try:
        described = dict(read_json(config.read_text(encoding="utf-8")))
    except (OSError, TypeError, ValueError) as error:
        raise ModelError(
            "MODEL", "an adapter as peft saves it", f"{shown(str(config))} ({shown(str(error))})", "Save it again."
        ) from error
    # A whole model, beside which an adapter lies, is its base.
    base = name if file_beside(name, "config.json") else described.get("base_model_name_or_path")
    if not isinstance(base, str) or not base or (base != name and file_beside(base, _ADAPTER)):
        raise ModelError(
            "MODEL",
            f"an adapter that names its base in {_ADAPTER}, a model that is none itself",
            f"{shown(name)}, on {shown(base)}",
            "Write base_model_name_or_path there; merge an adapter below it, merge_and_unload(), and save that.",
        )
    weights = file_beside(name, _ADAPTER_WEIGHTS)
    if weights is None:
        raise ModelError(
            "MODEL",
            "an adapter in safetensors",
            f"{shown(name)}, without {_ADAPTER_WEIGHTS}",
            "Save it again with save_pretrained.",
        )
    if importlib.util.find_spec("peft") is None:
        raise ModelError(
            "MODEL",
            "peft, to put an adapter on its base",
            f"{shown(name)}, an adapter on {shown(base)}, and no peft",
            "pip install peft, or merge the adapter where there is one, merge_and_unload(), and save that.",
        )
    return Adapter(name, base, described.get("revision"), weights)


def load(name: str, adapter: Adapter | None, *, dtype: str, trust_remote_code: bool) -> tuple[Any, Any]:
    """A model in evaluation, and its tokenizer: an adapter's own, or else that of its base.

    Args:
        name: a folder or a Hub id.
        adapter: the one that it is of.
        dtype: of the weights, as transformers names it.
        trust_remote_code: whether code beside the weights may run.

    Raises:
        ModelError: what the loader says.
    """
    from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSeq2SeqLM, AutoTokenizer  # slow to import

    base = name if adapter is None else adapter.base
    revision = {} if adapter is None or adapter.base == adapter.name else {"revision": adapter.revision}
    options: dict[str, Any] = {"trust_remote_code": trust_remote_code}
    with _said_of(name, adapter):
        own = adapter is None or file_beside(name, "tokenizer_config.json") is not None
        tokenizer = AutoTokenizer.from_pretrained(name if own else base, **options | ({} if own else revision))
        config = AutoConfig.from_pretrained(base, **options | revision)
        kind = AutoModelForSeq2SeqLM if config.is_encoder_decoder else AutoModelForCausalLM
        model = kind.from_pretrained(base, dtype=dtype, use_safetensors=True, **options | revision)
        if adapter is not None and base != name:  # else transformers has put it on already
            model = _with_adapter(model, adapter)
        return model.eval(), tokenizer


@contextmanager
def _said_of(name: str, adapter: Adapter | None) -> Iterator[None]:
    """Whatever the loader says, it says it of MODEL."""
    try:
        yield
    except CanaryError:
        raise
    except Exception as error:
        on = "" if adapter is None else f", an adapter on {shown(adapter.base)}"
        advice = "Check the name; a checkpoint in another file format can be saved again with save_pretrained."
        if adapter is not None:
            advice = f"Check that base, base_model_name_or_path in {_ADAPTER}; a folder is looked for from here."
        raise ModelError(
            "MODEL",
            "a folder or Hub id of a language model with its tokenizer, in safetensors",
            f"{shown(name)}{on} ({shown(str(error))})",
            advice,
        ) from error


def _with_adapter(model: Any, adapter: Adapter) -> Any:
    """A model with an adapter on it; its embedding is as large as that which the adapter brings, if it brings one."""
    from peft import PeftModel  # which need not be there
    from safetensors import safe_open

    place = next(place for place, module in model.named_modules() if module is model.get_input_embeddings())
    with safe_open(adapter.weights, framework="pt") as file:
        brought = [file.get_slice(key).get_shape() for key in file.keys() if key.endswith(f".{place}.weight")]  # noqa: SIM118
    for size, *_ in brought:
        if size != model.get_input_embeddings().num_embeddings:
            model.resize_token_embeddings(size, mean_resizing=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # of what peft asks transformers
        warnings.filterwarnings("error", "Found missing adapter keys")  # the base would be measured, which looks safe
        return PeftModel.from_pretrained(model, adapter.name)
