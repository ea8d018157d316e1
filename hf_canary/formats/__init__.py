"""Text with holes: templates, |R|, fill and text. Knows no tokenizer."""

from .canary_format import CanaryFormat as CanaryFormat
