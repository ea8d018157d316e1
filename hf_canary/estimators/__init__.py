"""From numbers to estimates with intervals (§4): none of them has heard of a model."""
