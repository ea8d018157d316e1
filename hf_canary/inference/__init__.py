"""A model as the walks see it: sessions after a prompt, costs in bits, states that fork. Knows no text."""
