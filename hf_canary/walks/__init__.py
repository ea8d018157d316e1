"""The walks over a token tree with a model's costs: score the listed leaves, search for the cheapest."""
