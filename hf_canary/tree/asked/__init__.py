"""The tree of a tokenizer that is written in Python, by what it answers."""
