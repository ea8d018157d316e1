"""How often what is drawn at random is repeated: as often as a test says by itself, or LAWS times as often.

The environment says so: `LAWS=10 python -m pytest tests/laws` for a night. Hypothesis follows it, see conftest.py.
"""

import os

LAWS = int(os.environ.get("LAWS", "1"))


def times(count: int) -> int:
    """So many repetitions, examples or seeds, times `LAWS`."""
    return count * LAWS
