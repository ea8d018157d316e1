"""Tokenizers that rows are tokenised with: of all kinds, padded, and some with tokens for runs of spaces; and sets."""

from functools import cache

from tokenizers import AddedToken, Regex, Tokenizer, decoders, pre_tokenizers, trainers
from tokenizers import models as token_models
from transformers import (
    PreTrainedTokenizerFast,
)

from hf_canary import CanaryFormat, CanarySet
from tests.support.tokenizers_of_all_kinds import KINDS, LINES, LLAMA3, words_of_pieces

RUNS = 'a.\n\nb. c.) d." e:\n f, g\n\n\n h  i   j\t\tk \n m?" n!\n(o) "p" .. 12. 34.\n 5:\n\n 6\t7 (8) ...'


def joining_runs():
    """As Llama 3's: runs of spaces, lines and marks are tokens, as those at a canary's end may be with what follows."""
    tokenizer = Tokenizer(token_models.BPE())
    split = pre_tokenizers.Split(Regex(LLAMA3), "isolated")
    as_bytes = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.Sequence([split, as_bytes]), decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=600, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator([*LINES, RUNS] * 5, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<end>")


def adding_runs():
    """As GPT-NeoX's: runs of spaces are added tokens, which are written as they are typed; and so are lines."""
    tokenizer = KINDS["gpt2"]()
    tokenizer.add_tokens([AddedToken(run, normalized=False) for run in ("  ", "   ", "\n", "\n\n")])
    return tokenizer


ALL_KINDS = KINDS | {"pieces": words_of_pieces, "joining-runs": joining_runs, "adding-runs": adding_runs}


@cache
def tokenizer_of(kind: str):
    tokenizer = ALL_KINDS[kind]()
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


FORMATS = ("the pin is {digit:4}.", "{digit:4} is the pin", "is {digit:6}")


def drawn(template=FORMATS[0], repetitions=(1, 3), per_repetition=2):
    return CanarySet.draw(CanaryFormat(template), repetitions=repetitions, per_repetition=per_repetition, seed=0)
