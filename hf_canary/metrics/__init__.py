"""The metric modules for `evaluate.load`, and where they lie."""

from pathlib import Path

EXPOSURE_METRIC = str(Path(__file__).parent / "canary_exposure")
"""What to give `evaluate.load` for the exposure metric; it works offline."""
