"""The one door to a terminal: what people read, without anything in it that does something there.

Alphabets, ids in a file from elsewhere, names of models: all of them may hold escape codes, marks that turn the
direction of writing, line ends that begin a false line, or what rich takes for its own. Knows no result.
"""

from __future__ import annotations

from rich.console import Console
from rich.text import Text

from ..errors import printable


def visible(text: str, style: str = "") -> Text:
    """Text for rich to print as it is, in one line: nothing in it is markup, a picture's name or a code."""
    return Text(printable(text), style=style)


def say(console: Console, line: str | Text) -> None:
    """Print one line, not wrapped and not coloured: much of it is to be copied, or read by a program."""
    console.print(line if isinstance(line, Text) else visible(line), highlight=False, soft_wrap=True)
