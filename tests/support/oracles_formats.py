"""A naive twin of formats: pieces of text and choices, written out one by one. Knows not how templates are read."""

import re
import string

from hf_canary import CanaryFormat

ALPHABETS = {
    "digit": "0123456789",
    "lower": "abcdefghijklmnopqrstuvwxyz",
    "upper": "ABCDEFGHIJKLMNOPQRSTUVWXYZ",
    "letter": "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz",
    "alnum": "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz",
    "hex": "0123456789abcdef",
}
Text = tuple[str]  # fixed text
Choice = tuple[str, tuple[str, ...]]  # the name of an alphabet, and its entries
LUHN = ("luhn", ())
Pieces = list[Text | Choice]


def template_of(pieces: Pieces) -> str:
    """The template that stands for `pieces`."""
    texts = [
        piece[0].replace("{", "{{").replace("}", "}}") if len(piece) == 1 else f"{{{piece[0]}}}" for piece in pieces
    ]
    return "".join(texts)


def spaces_of(pieces: Pieces) -> dict[str, list[str]] | None:
    own = {piece[0]: list(piece[1]) for piece in pieces if len(piece) == 2 and piece != LUHN}
    return {name: entries for name, entries in own.items() if name not in ALPHABETS} or None


def format_of(pieces: Pieces) -> CanaryFormat:
    return CanaryFormat(template_of(pieces), spaces=spaces_of(pieces))


def all_texts(pieces: Pieces) -> list[str]:
    """Every text that `pieces` write, the first choice slowest; a check digit is the one of ten that is valid."""
    texts = [""]
    for piece in pieces:
        if piece == LUHN:
            texts = [text + next(d for d in string.digits if luhn_valid(last_run(text) + d)) for text in texts]
        else:
            texts = [text + entry for text in texts for entry in piece[-1 if len(piece) == 2 else slice(None)]]
    return texts


def last_run(text: str) -> str:
    """The digits in the run of digits, spaces and hyphens that ends `text`."""
    return re.sub("[ -]", "", re.search("[0-9 -]*$", text).group())


def luhn_valid(number: str) -> bool:
    """The textbook check: from the right, every second digit counts double, and nines are cast out of what is over."""
    total = 0
    for place, digit in enumerate(reversed(number)):
        value = int(digit)
        if place % 2 == 1:
            value = value * 2 if value < 5 else value * 2 - 9
        total += value
    return total % 10 == 0


def is_ambiguous(pieces: Pieces) -> bool:
    texts = all_texts(pieces)
    return len(set(texts)) < len(texts)


def is_prefix_free(pieces: Pieces) -> bool:
    texts = set(all_texts(pieces))
    return not any(text[:end] in texts for text in texts for end in range(len(text)))
