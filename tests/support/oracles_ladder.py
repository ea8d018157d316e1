"""The ladder by brute force: every candidate is encoded and read by itself; what may follow a prefix is what does so in
some encoding.

Slow and plain on purpose; independent of the tree, of the walks and of the estimators. Natural logs and bits are named.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch

BETAS = (0.0, 0.1, 0.2, 0.35, 0.5, 0.75, 1.0, 1.5, 2.0)


@dataclass
class Candidate:
    """One encoding: its tokens after the prompt, its bits, ln q of each rung, and how many fills have it."""

    path: tuple
    bits: float
    log_q: np.ndarray
    copies: int


@torch.no_grad()
def enumerated(model, encodings, prompt):
    """A `Candidate` for each different encoding.

    `encodings` has one for each fill, all of which begin with `prompt`; none goes on where another ends.
    """
    counts = {}
    for ids in encodings:
        assert list(ids[: len(prompt)]) == list(prompt)
        path = tuple(ids[len(prompt) :])
        counts[path] = counts.get(path, 0) + 1
    following = {}
    for path in counts:
        for end in range(len(path)):
            following.setdefault(path[:end], set()).add(path[end])
    logs = {}
    for length in sorted({len(prefix) for prefix in following}):
        alike = [prefix for prefix in following if len(prefix) == length]
        for at in range(0, len(alike), 100):
            some = alike[at : at + 100]
            if prompt or length:
                logits = model(input_ids=torch.tensor([[*prompt, *prefix] for prefix in some])).logits[:, -1]
            else:
                logits = model.initial_logits()[None]
            logs |= zip(some, torch.log_softmax(logits.double(), dim=-1).numpy(), strict=True)
    found = []
    for path, copies in counts.items():
        nats, log_q = 0.0, np.zeros(len(BETAS))
        for end, token in enumerate(path):
            here = logs[path[:end]]
            nats -= here[token]
            for rung, beta in enumerate(BETAS[1:], start=1):
                total = math.fsum(math.exp(beta * here[other]) for other in following[path[:end]])
                log_q[rung] += beta * here[token] - math.log(total) if total else -math.inf
        log_q[0] = math.log(copies / len(encodings))
        found.append(Candidate(path, nats / math.log(2.0), log_q, copies))
    return found


def weights(candidates, shares):
    """What a draw of each stands for, in fills: copies / Σ_k s_k q_k."""
    return np.array([each.copies / math.fsum(shares * np.exp(each.log_q)) for each in candidates])


def mixture(candidates, shares):
    """How likely each is to be drawn."""
    return np.array([math.fsum(shares * np.exp(each.log_q)) for each in candidates])


def rank(candidates, bits):
    """Fills at least as likely (Definition 2)."""
    return sum(each.copies for each in candidates if each.bits <= bits)


def standard_error(candidates, shares, bits, count):
    """Of the rank estimated from `count` draws of the mixture: √((Σ_hits w² q − rank²) / count)."""
    w, q = weights(candidates, shares), mixture(candidates, shares)
    hits = np.array([each.bits <= bits for each in candidates])
    return math.sqrt(max(0.0, float((w**2 * q)[hits].sum()) - rank(candidates, bits) ** 2) / count)
