"""Tokenizers that rows are tokenised with: of all kinds, padded, and some with tokens for runs of spaces; and sets."""

from functools import cache

from datasets import Dataset
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


FORMAT = CanaryFormat("the pin is {digit:4}.")


def a_set(format: CanaryFormat = FORMAT, repetitions=(1, 3), seed: int = 0) -> CanarySet:
    return CanarySet.draw(format, repetitions=repetitions, per_repetition=2, seed=seed)


def blocks(rows: list[list[int]], size: int, end: int | None = None) -> list[list[int]]:
    flat = [token for row in rows for token in ([*row, end] if end is not None else row)]
    return [flat[at : at + size] for at in range(0, len(flat), size)]


def rows_of(canaries, tokenizer, place):
    copies = [canary.text for canary in canaries for _ in range(canary.repetitions)]
    texts = [place(text, number) for number, text in enumerate(copies)] + ["a cat sat.", "the pin is not"]
    return Dataset.from_dict({"input_ids": [tokenizer(text)["input_ids"] for text in texts]})


def spans(tokenizer, text: str) -> tuple[list[int], list[tuple[int, int]]]:
    """The tokens of a text, and from where to where each goes."""
    if tokenizer.is_fast:
        encoding = tokenizer(text, return_offsets_mapping=True, add_special_tokens=False)
        return encoding["input_ids"], encoding["offset_mapping"]
    lengths = [len(letter.encode()) for letter in text]
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    assert len(ids) == sum(lengths)
    return ids, [(at, at + 1) for at, length in enumerate(lengths) for _ in range(length)]


def a_copy(tokenizer, before: str, text: str, behind: str) -> tuple[list[int], int, int]:
    """The tokens of a text amid others; and from which to which those go that write what its own encoding writes."""
    written = {len(before) + place for one in spans(tokenizer, text)[1] for place in range(*one)}
    ids, where = spans(tokenizer, before + text + behind)
    over = [number for number, one in enumerate(where) if written & {*range(*one)}]
    return ids, over[0], over[-1] + 1


# How a text stands in the n-th row that is not its own.
PLACES = {
    "own row": lambda text, n: text,
    "after a line": lambda text, n: f"a cat. is\n{text}",
    "after a word": lambda text, n: f"not the cat {text}",
    "amid words": lambda text, n: f"cat. {text} a cat",
    "after a colon": lambda text, n: f"a. cat: {text}",
    "everywhere": lambda text, n: ("a ", "the cat sat. ", "is: ", "\n")[n % 4] + text,
}
