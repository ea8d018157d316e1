"""The scripts of the repository as modules: examples and benchmarks are no package."""

import importlib.util
from pathlib import Path

ROOT = Path(__file__).parents[2]


def load(script):
    """A script as a module."""
    spec = importlib.util.spec_from_file_location(Path(script).stem, ROOT / script)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
