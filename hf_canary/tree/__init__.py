"""The tree of the encodings of all fills: format × tokenizer. Knows no model."""
