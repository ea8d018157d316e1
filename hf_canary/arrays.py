"""The types of arrays, and the constant between nats and bits."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

LN2 = math.log(2.0)
"""Nats of a bit."""
