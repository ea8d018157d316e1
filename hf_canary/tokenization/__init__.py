"""What a tokenizer does, read from its parts: how it encodes, and the rules of it. Knows no format and no model."""
