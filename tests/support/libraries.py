"""What nearly every program imports, loaded once for all of them (see fresh.py); nothing of this package. It stands
until the end, and no collection of garbage looks it through.
"""

import gc

import datasets  # noqa: F401
import evaluate  # noqa: F401
import rich.console
import rich.progress  # noqa: F401
import scipy.stats  # noqa: F401
import torch  # noqa: F401
import typer  # noqa: F401
from transformers import (  # noqa: F401
    AutoModelForCausalLM,
    AutoTokenizer,
    GPT2LMHeadModel,
    LlamaForCausalLM,
    Trainer,
    TrainingArguments,
)

gc.freeze()
