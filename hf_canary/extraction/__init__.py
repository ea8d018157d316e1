"""The likeliest fills of a format, proven (§8), and exact ranks."""

from .likeliest import Candidate as Candidate
from .likeliest import Extraction as Extraction
from .likeliest import exact_rank as exact_rank
from .likeliest import extract as extract
from .likeliest import iter_extract as iter_extract
