"""A search on a small model, and all candidates of it by brute force."""

from dataclasses import dataclass

import hf_canary.models as models
from hf_canary.inference.evaluation import evaluating
from hf_canary.inference.language_model import LanguageModel
from hf_canary.tree.token_tree import TokenTree
from hf_canary.walks.search.goals import Cheapest
from hf_canary.walks.search.run import go_on
from hf_canary.walks.search.search import Search
from hf_canary.walks.search.strategy import STRATEGIES
from tests.support import oracles

DIGITS = models.character_tokenizer(["pin 0123456789", "abcx. "])


@dataclass
class Result:
    costs: list
    certified: bool
    expanded: int
    lower_bound: float
    stopped: str


def run(model, format, *, top_k=1, batch_size=None, strategy="auto", max_memory=2**30, **options):
    """What a search finds, in bits from the canary's first token on, and the texts."""
    tree = TokenTree(format, DIGITS)
    with evaluating(model):
        view = LanguageModel(model, batch_size=batch_size)
        session = view.session(tree.prompt, tree.depth, mixed=True)
        shared = session.prompt_bits[view.first_summed(tree.conditioned, len(tree.prompt)) :].sum()
        goal = Cheapest(top_k, tree.depth)
        search = Search(view, session, tree, goal, strategy=STRATEGIES[strategy], max_memory=max_memory)
        stopped = go_on(search, **options)
    bound = shared + search.lower_bound
    result = Result((shared + goal.costs).tolist(), search.is_over, search.expanded, bound, stopped)
    return result, [tree.text(path) for path in goal.leaves]


def ranking(model, format):
    """All candidates by brute force, cheapest first."""
    texts = list(format.candidates())
    costs = oracles.brute_force(model, DIGITS, texts)
    return sorted(zip(costs, texts, strict=True))
