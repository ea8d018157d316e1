"""hf_canary: put canaries into training data, watch their exposure, prove what can be extracted.

The public list. Each name is loaded from its room when it is first used, so that `import hf_canary` is quick.
"""

from importlib import import_module

__version__ = "0.1.0"

TYPE_CHECKING = False  # as in typing, which takes longer to import than this, and which a Ctrl-C would interrupt

if TYPE_CHECKING:
    from .callback import ExposureCallback as ExposureCallback
    from .canaries import Canary as Canary
    from .canaries import CanarySet as CanarySet
    from .decoding import FormatLogitsProcessor as FormatLogitsProcessor
    from .errors import CanaryError as CanaryError
    from .extraction.exact_ranks import exact_rank as exact_rank
    from .extraction.likeliest import extract as extract
    from .extraction.result import Extraction as Extraction
    from .formats.canary_format import CanaryFormat as CanaryFormat
    from .injection.transform import InjectCanaries as InjectCanaries
    from .measure import measure_exposure as measure_exposure
    from .metrics import EXPOSURE_METRIC as EXPOSURE_METRIC
    from .presence.check import check_presence as check_presence
    from .reporting.exposure import Exposure as Exposure
    from .scoring import log_perplexity as log_perplexity

_ROOM_OF = {
    "Canary": "canaries",
    "CanaryError": "errors",
    "CanaryFormat": "formats",
    "CanarySet": "canaries",
    "EXPOSURE_METRIC": "metrics",
    "Exposure": "reporting.exposure",
    "ExposureCallback": "callback",
    "Extraction": "extraction",
    "FormatLogitsProcessor": "decoding",
    "InjectCanaries": "injection",
    "check_presence": "presence",
    "exact_rank": "extraction",
    "extract": "extraction",
    "log_perplexity": "scoring",
    "measure_exposure": "measure",
}

__all__ = sorted(_ROOM_OF)


def __getattr__(name: str) -> object:
    if name in _ROOM_OF:
        return getattr(import_module(f".{_ROOM_OF[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
