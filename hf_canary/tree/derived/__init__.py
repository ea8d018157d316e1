"""The tree of a tokenizer whose rules are known, derived from them: nothing is asked."""
