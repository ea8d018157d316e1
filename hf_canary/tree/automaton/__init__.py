"""A format over characters: an automaton of what its holes may write. Knows no tokenizer."""
