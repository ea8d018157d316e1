"""A format under a model and a tokenizer, and all that brute force says of it; see oracles_ladder.py."""

import functools
import math

import torch

from hf_canary.formats import CanaryFormat
from hf_canary.inference.evaluation import evaluating
from hf_canary.inference.language_model import LanguageModel
from hf_canary.measurement import ranking
from hf_canary.measurement.sampling import draw
from hf_canary.runtime.deadline import Deadline
from hf_canary.tokenization.encoding import encode
from hf_canary.tree.token_tree import TokenTree
from tests.support import oracles, oracles_ladder
from tests.support.tokenizers_of_all_kinds import KINDS


class World:
    """A format under a model and a tokenizer, and all that brute force says of it."""

    def __init__(self, model, tokenizer, format, **options):
        self.model, self.format = model.eval(), format
        self.tree = TokenTree(format, tokenizer, end=tokenizer.eos_token_id if options.get("end") else None)
        texts = [format.render(fill) for fill in range(format.space_size)]
        self.encodings = encode(tokenizer, texts, end=options.get("end", False)).sequences
        self.candidates = oracles_ladder.enumerated(model, self.encodings, self.tree.prompt)
        self.by_path = {each.path: each for each in self.candidates}

    def fill(self, path):
        """A fill of this encoding."""
        return next(n for n, ids in enumerate(self.encodings) if tuple(ids[len(self.tree.prompt) :]) == path)

    def draws(self, known, count, seed=0, **options):
        with evaluating(self.model) as bare:
            view = LanguageModel(bare, **options)
            session = view.session(self.tree.prompt, self.tree.depth)
            return draw(view, lambda: session, self.tree, known, count, seed=seed, deadline=Deadline())


@functools.cache
def of_kind(kind):
    return KINDS[kind]()


def world(kind, name, template, seed=0, spread=2.0, spaces=None, **options):
    tokenizer = of_kind(kind)
    size = max(tokenizer.get_vocab().values()) + 1
    model = oracles.TableModel(size, seed, spread) if name == "table" else oracles.small_model(name, size, seed)
    return World(model, tokenizer, CanaryFormat(template, spaces=spaces), **options)


SPACES = {"w": ["thing", "pin", "a", "cats", "sinning"], "x": ["a", "A", "b", "3"], "c": ["é", "日", "n"]}


class Impossible(oracles.TableModel):
    """After a 7 no digit is possible, and a 3 never is."""

    def logits_after(self, prefix):
        logits = super().logits_after(prefix).clone()
        logits[self.three] = -torch.inf
        if prefix[-1] == self.seven:
            logits[self.digits] = -torch.inf
        return logits


def impossible():
    tokenizer = KINDS["characters"]()
    model = Impossible(max(tokenizer.get_vocab().values()) + 1)
    model.three, model.seven = tokenizer.convert_tokens_to_ids(["3", "7"])
    model.digits = torch.tensor(tokenizer.convert_tokens_to_ids([*"0123456789"]))
    return World(model, tokenizer, CanaryFormat("pin {digit:3}"))


TREES = [
    ("characters", "the pin is {digit:2}"),
    ("gpt2", "the pin is {digit:2}."),
    ("unigram", "the {w} {digit} is"),
    ("wordpiece", "the pin {x}{x} is"),
]


def counted(here, fills, max_expanded=10**6, **options):
    with evaluating(here.model) as bare:
        view = LanguageModel(bare, **options)
        session = view.session(here.tree.prompt, here.tree.depth, mixed=True)
        walk = ranking.Ranking(view, session, here.tree, fills, max_memory=view.max_memory)
        return walk.count(max_expanded=max_expanded)


def prefix_costs(here):
    """Bits of every inner prefix, the empty one included, read one by one."""
    import torch

    prompt = here.tree.prompt
    prefixes = {each.path[:end] for each in here.candidates for end in range(len(each.path))}
    for prefix in prefixes:
        nats = 0.0
        for end, token in enumerate(prefix):
            logits = here.model(input_ids=torch.tensor([[*prompt, *prefix[:end]]])).logits[0, -1]
            nats -= torch.log_softmax(logits.double(), -1)[token].item()
        yield nats / math.log(2)
