"""Canaries into datasets and streams, and out again. Knows of a canary only what goes in, and how often."""

from .transform import InjectCanaries as InjectCanaries
