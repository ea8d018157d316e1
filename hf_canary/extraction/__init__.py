"""The likeliest fills of a format, proven (§8), and exact ranks."""

from .exact_ranks import exact_rank as exact_rank
from .likeliest import extract as extract
from .likeliest import iter_extract as iter_extract
from .result import Candidate as Candidate
from .result import Extraction as Extraction
