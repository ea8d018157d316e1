"""Ctrl-C as a question that long work asks itself, so that it ends between two steps and can say what it has."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from .processes import all_reduce_sum, num_processes


@contextmanager
def noticing() -> Iterator[Callable[[], bool]]:
    """A function that says whether Ctrl-C was pressed meanwhile, the same in every process.

    Pressed a second time it raises KeyboardInterrupt, as ever. Only the main thread may listen; elsewhere nothing is
    noticed.
    """
    pressed = False

    def remember(number: int, frame: FrameType | None) -> None:
        nonlocal pressed
        if pressed:
            raise KeyboardInterrupt
        pressed = True

    def was_pressed() -> bool:
        return all_reduce_sum(float(pressed)) > 0 if num_processes() > 1 else pressed

    if threading.current_thread() is not threading.main_thread():
        yield was_pressed
        return
    before = signal.signal(signal.SIGINT, remember)
    try:
        yield was_pressed
    finally:
        signal.signal(signal.SIGINT, before)
