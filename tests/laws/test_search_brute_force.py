"""Thousands of small searches against all candidates read one by one."""

import math
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from transformers import GPT2Config
from transformers.modeling_outputs import CausalLMOutputWithPast

from hf_canary import CanaryFormat, exact_rank, extract
from hf_canary.extraction import exact_ranks, search_setup
from hf_canary.tree.token_tree import TokenTree
from tests.support.repetitions import times
from tests.support.tokenizers_of_all_kinds import KINDS

WORDS = ["a", "an", "An", "ant", "cats", "sing", "sinning", "abab"]
FORMATS = [
    "the pin is {digit:2}",
    "pin {digit:2}{luhn}",
    " the {w} is {digit}.",
    "{w} {w}.",
    "the {w}{digit}{w} cats",
    "pin12 {digit} the {w}-{digit}",
    "is {digit:2}12{luhn}.",
]
NEAR = 1e-3


class Tables(nn.Module):
    """A model whose every prefix has one of 499 tables of logits, as a hash of its tokens says."""

    def __init__(self, vocab_size: int, seed: int, spread: float) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocab_size, 1)
        self.config = GPT2Config(vocab_size=vocab_size)
        self.device = torch.device("cpu")
        generator = torch.Generator().manual_seed(seed)
        self.logits = torch.randn(499, vocab_size, generator=generator) * spread

    def get_input_embeddings(self):
        return self.embedding

    def after(self, ids: torch.Tensor) -> torch.Tensor:
        """(rows, tokens) which table each prefix has."""
        weights = torch.tensor([pow(31, place, 499) for place in range(ids.shape[1])])
        return ((ids + 7) * weights).cumsum(dim=1) % 499

    def forward(self, input_ids, past_key_values=None, use_cache=None):
        return CausalLMOutputWithPast(logits=self.logits[self.after(input_ids)])


@dataclass
class World:
    """A format under a tokenizer, and what the tokenizer makes of each of its fills.

    Args:
        texts: of all fills.
        ids: (n_fills, longest) whole encodings, padded with 0.
        summed: (n_fills, longest) which of the tokens belong to the candidate.
        same: (n_fills,) a number for each different encoding.
    """

    format: CanaryFormat
    tokenizer: Any
    tree: TokenTree
    texts: list
    ids: torch.Tensor
    summed: np.ndarray
    same: np.ndarray

    def costs(self, model: Tables) -> np.ndarray:
        """(n_fills,) bits of each, each token's read from the table that its prefix has."""
        bits = -model.logits.double().log_softmax(-1) / math.log(2.0)
        following = bits[model.after(self.ids)[:, :-1], self.ids[:, 1:]].numpy()
        return np.where(self.summed[:, 1:], following, 0.0).sum(axis=1)


@cache
def world(kind: str, template: str) -> World:
    """Built once, since building is what takes time."""
    format, tokenizer = CanaryFormat(template, spaces={"w": WORDS}), tokenizer_of(kind)
    texts = list(format.candidates())
    before = tokenizer("so").input_ids
    rows = [tokenizer("so" + text).input_ids for text in texts]
    assert all(row[: len(before)] == before for row in rows)
    ids = torch.zeros(len(rows), max(map(len, rows)), dtype=torch.long)
    summed = np.zeros(ids.shape, dtype=bool)
    for number, row in enumerate(rows):
        ids[number, : len(row)] = torch.tensor(row)
        summed[number, len(before) : len(row)] = True
    _, same = np.unique(ids.numpy(), axis=0, return_inverse=True)
    return World(format, tokenizer, TokenTree(format, tokenizer, context="so"), texts, ids, summed, same.reshape(-1))


@cache
def tokenizer_of(kind):
    return KINDS[kind]()


def likeliest(costs, same):
    """Costs of the different encodings, ascending."""
    return np.sort(costs[np.unique(same, return_index=True)[1]])


@pytest.fixture
def built(monkeypatch):
    """A function that makes all that is built from now on this world's tree."""
    return lambda here: monkeypatch.setattr(search_setup, "TokenTree", lambda *_, **__: here.tree)


def random_case(kind, number):
    """(world, model, costs, generator): one of the formats, by the number; every ninth model has no preferences."""
    generator = np.random.default_rng(number)
    here = world(kind, FORMATS[number % len(FORMATS)])
    spread = 0.0 if number % 9 == 0 else float(generator.choice([0.3, 1.0, 2.0, 6.0]))
    model = Tables(len(here.tokenizer), number, spread)
    if spread:  # after many a prefix one of the candidates' tokens costs almost nothing
        held = np.unique(here.ids.numpy())
        model.logits[torch.arange(499), torch.from_numpy(generator.choice(held, 499))] += 12.0
    return here, model, here.costs(model), generator


@pytest.mark.parametrize("part", range(2))
@pytest.mark.parametrize("kind", ["characters", "gpt2", "llama3", "unigram", "wordpiece", "byte-fallback"])
def test_thousands_of_searches_claim_what_holds(kind, part, built):
    """Any strategy, batch size, number and cap: costs of the fills' own, none twice, and no claim that is not so."""
    for number in range(times(170) * part, times(170) * (part + 1)):
        here, model, costs, generator = random_case(kind, number)
        built(here)
        expected = likeliest(costs, here.same)
        top_k = min(int(generator.choice([1, 10])), len(expected))
        strategy = str(generator.choice(["auto", "best-first", "depth-first", "auto", "paper"]))
        cap = None if strategy != "paper" and generator.random() < 0.6 else int(generator.integers(1, 150))
        found = extract(
            model,
            here.tokenizer,
            here.format,
            context="so",
            top_k=top_k,
            strategy=strategy,
            batch_size=int(generator.choice([1, 3, 7, 64, 256], p=[0.07, 0.18, 0.25, 0.25, 0.25])),
            max_expanded=cap,
            num_references=8,  # what a candidate is worth is looked at elsewhere
        )
        case = f"{kind} {number} {strategy} {cap}: {found}"
        fills, bits = [each.fill for each in found.candidates], [each.log_perplexity for each in found.candidates]
        assert len(set(here.same[fills])) == len(fills), case
        assert [each.text for each in found.candidates] == [here.texts[fill] for fill in fills], case
        assert bits == sorted(bits), case
        np.testing.assert_allclose(bits, costs[fills], atol=NEAR, err_msg=case)
        others = costs[~np.isin(here.same, here.same[fills])]
        assert found.lower_bound <= others.min(initial=math.inf) + NEAR, case
        assert found.certified or cap is not None, case
        if found.certified:
            np.testing.assert_allclose(bits, expected[:top_k], atol=NEAR, err_msg=case)
        if cap is not None:
            assert found.expanded <= cap, case


@pytest.mark.parametrize("kind", ["characters", "gpt2", "unigram", "wordpiece", "byte-fallback"])
def test_ranks_of_random_models_are_those_of_enumeration(kind, built, monkeypatch):
    """Fills near the first, in the middle and the last, in one walk: the rank but for ties; capped, bounds hold."""
    monkeypatch.setattr(exact_ranks, "_DRAWS", 50)
    for number in range(times(15)):
        here, model, costs, generator = random_case(kind, number)
        built(here)
        by_cost = np.argsort(costs)
        fills = by_cost[[0, 1, len(by_cost) // 3, len(by_cost) - 1, int(generator.integers(len(by_cost)))]].tolist()
        cap = None if generator.random() < 0.6 else int(generator.integers(1, 60))
        batch_size = int(generator.choice([1, 7, 64]))
        ranks = exact_rank(
            model, here.tokenizer, here.format, fills, context="so", batch_size=batch_size, max_expanded=cap
        )
        for fill, rank in zip(fills, ranks, strict=True):
            case = f"{kind} {number} {fill} {cap}: {rank}"
            least, most = ((costs <= costs[fill] + slack).sum() for slack in (-NEAR, NEAR))
            assert rank.low <= most, case
            assert rank.high > least, case
            assert rank.rank is not None or cap is not None, case
            if rank.rank is not None:
                assert least < rank.rank <= most, case
                assert rank.low + rank.ties == rank.rank == rank.high, case
                truth = (costs <= costs[fill] + 1e-9).sum()
                assert abs(rank.rank - truth) <= rank.ties, case


def test_bounds_hold_where_fills_are_encoded_alike(built, monkeypatch):
    """What is open below a prefix counts once for each fill that has the prefix: An and an are one here."""
    monkeypatch.setattr(exact_ranks, "_DRAWS", 50)
    here, model, costs, _ = random_case("wordpiece", 11)
    built(here)
    assert len(np.unique(here.same)) < len(costs)
    dearest = int(np.argmax(costs))
    for cap in range(3, 50, 4):
        (rank,) = exact_rank(model, here.tokenizer, here.format, [dearest], context="so", max_expanded=cap)
        assert rank.low <= len(costs)
        assert rank.high > (costs <= costs[dearest] - NEAR).sum()
