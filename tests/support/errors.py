"""What holds for every error of the package, as a check of each that a test provokes."""

import pickle
import threading
from collections.abc import Callable

from hf_canary.errors import CanaryError, printable

LONGEST_MESSAGE = 600
SECONDS = 20.0  # in which everything small is over, on a busy machine too


def outcome(call: Callable[[], object]) -> BaseException | None:
    """What became of a call: nothing where it went well, or the error; `TimeoutError` if it goes on for too long."""
    found: list[BaseException | None] = []

    def caught() -> None:
        try:
            call()
            found.append(None)
        except BaseException as error:
            found.append(error)

    thread = threading.Thread(target=caught, daemon=True)
    thread.start()
    thread.join(SECONDS)
    return found[0] if found else TimeoutError("it goes on")


def check_error(error: BaseException, kind: type[CanaryError], argument: str | None = None) -> None:
    """What holds for every error of the package; the other test files call it on each that they provoke."""
    assert isinstance(error, kind)
    assert isinstance(error, CanaryError)
    parts = [error.argument, error.expected, error.got, error.remedy]
    for part in parts:
        assert isinstance(part, str)
        assert part.strip()
        assert printable(part) in str(error)
    assert len(str(error)) <= LONGEST_MESSAGE
    if argument is not None:
        assert error.argument == argument
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is type(error)
    assert [again.argument, again.expected, again.got, again.remedy] == parts
    assert str(again) == str(error)


def kind_of(value: object) -> str:
    """An id of a parameter that is short whatever the value; pytest numbers those that are alike."""
    return type(value).__name__
