"""Byte-pair encoding: which tokens may stand side by side within a word.

The rule. Merges are done in the order of their ranks, the leftmost first of equal ones. Tokens t₁ … tₙ are the encoding
of a word exactly when each tᵢ is the encoding of its own letters, and each two neighbours are that of theirs (Berglund
and van der Merwe 2023, arXiv 2309.08715; Vieira et al., ICML 2025, arXiv 2506.07956). Of `th` + `e` both are encodings;
the pair is none, if (`th`, `e`) is a merge. So a table of pairs says all, and it is worked out from the merges alone:

- A token is made by a last merge of two, each made by one before: a tree. While a pair's two halves are being made,
  only tokens on the left one's right spine and on the right one's left spine meet at the seam. The pair is no encoding
  if two of them meet that merge sooner than one of them goes on in its own half.
- All tokens with a given token on their left spine stand side by side, if the forest of left halves is numbered from
  the top; and so do those of them that stay there for longer than a given rank. So what may not follow a token is a
  handful of intervals.

The first holds of tokens whose merges rank higher than those of their halves. Of the few others, the merges are done
one by one. This file knows no words, no pre-tokenizer and no format.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from itertools import pairwise

import numpy as np

from ..arrays import Bools, Ints

_NEVER = np.iinfo(np.int64).max
_NOTHING = (np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64))
_FEW = 64  # so few are quicker asked by pairs
_MOST_REMEMBERED = 1_000_000  # pairs
_INITIAL = -1  # the rank of a letter, which no merge makes


class Merges:
    """The merges of a vocabulary, and the tree of each entry that they reach.

    Args:
        size: ids are below.
        merges: (left, right, made) ids, in the order of their ranks.
        letters: the ids that stand for one unit each, which encodings begin with.
        lengths: (size,) how many letters each entry has.

    Attributes:
        size: ids are below.
        reached: (size,) whether merges of its own letters end in an entry.
    """

    def __init__(self, size: int, merges: Ints, letters: Ints, lengths: Ints) -> None:
        self.size, self._lengths = size, lengths
        keys = merges[:, 0] * size + merges[:, 1]
        self._ranks = _sorted_by(keys)
        self._keys = keys[self._ranks]
        last = np.diff(self._keys, append=-1) != 0  # of a merge that stands twice, the last counts
        self._keys, self._ranks = self._keys[last], self._ranks[last]
        self._results = merges[self._ranks, 2]
        self._rank_of_merge = np.sort(self._ranks)
        self._l, self._r, self._made = (merges[self._rank_of_merge, which] for which in range(3))
        self._histories: dict[tuple[int, int], list[tuple[int, int]]] = {}
        self._asked: dict[int, bool] = {}
        self._left, self._right = np.full(size, -1), np.full(size, -1)
        self._rank = np.full(size, _INITIAL)
        self.reached = np.zeros(size, dtype=bool)
        self.reached[letters] = True
        self._in_order = self.reached.copy()
        self._find_trees()
        self._number_forest()

    def may_follow(self, left: Ints, right: Ints) -> Bools:
        """(n,) whether each two may stand side by side within a word; all are `reached`."""
        left, right = np.broadcast_arrays(left, right)
        in_order = self._in_order[left] & self._in_order[right]
        if in_order.all():
            return ~self._meets(left, right, is_made=False)
        allowed = np.empty(len(left), dtype=bool)
        allowed[in_order] = ~self._meets(left[in_order], right[in_order], is_made=False)
        for at in np.flatnonzero(~in_order).tolist():
            allowed[at] = not self._collide(int(left[at]), int(right[at]))
        return allowed

    def may_follow_this(self, left: int, right: int) -> bool:
        """The same of two, remembered."""
        key = left * self.size + right
        if key not in self._asked:
            if len(self._asked) > _MOST_REMEMBERED:
                self._asked.clear()
            is_in_order = self._in_order[left] and self._in_order[right]
            self._asked[key] = not (self._meet(left, right) if is_in_order else self._collide(left, right))
        return self._asked[key]

    def may_not_follow(self, left: int, candidates: Candidates) -> Ints:
        """(n,) the indices of those of some tokens that may not follow one, in any order; some perhaps twice."""
        if not self._in_order[left] or len(candidates.tokens) < _FEW:
            return np.flatnonzero(~self.may_follow(np.array([left]), candidates.tokens))
        low, high = map(np.concatenate, zip(_NOTHING, *self._blocked_by(left), strict=True))
        blocked = candidates.within(low, high)
        if not candidates.odd:
            return blocked
        odd = {at for spine in self._right_spine(left) for at in candidates.odd.get(spine, ())}
        met = [at for at in odd if not self.may_follow_this(left, int(candidates.tokens[at]))]
        return np.concatenate([blocked[~candidates.is_odd[blocked]], np.array(met, dtype=np.int64)])

    def candidates(self, tokens: Ints) -> Candidates:
        """Tokens in the order in which `may_not_follow` needs them."""
        is_odd = self.reached[tokens] & ~self._in_order[tokens]
        odd: dict[int, list[int]] = defaultdict(list)
        for at in np.flatnonzero(is_odd).tolist():
            begins = {token for _, token in self._history(int(tokens[at]), 0)}
            for left in {left for token in begins for left in self._merged_before(token)}:
                odd[left].append(at)
        return Candidates(tokens, self._numbers[tokens], is_odd, np.flatnonzero(~self.reached[tokens]), odd)

    def _merged_before(self, right: int) -> list[int]:
        """Tokens that some merge joins with one behind them."""
        of_right, lefts = self._lefts
        low, high = np.searchsorted(of_right, [right, right + 1])
        return lefts[low:high].tolist()  # type: ignore[no-any-return]

    @cached_property
    def _lefts(self) -> tuple[Ints, Ints]:
        """The right and the left halves of all merges, ascending by right."""
        order = _sorted_by(self._r)
        return self._r[order], self._l[order]

    def encode(self, letters: Sequence[int]) -> list[int]:
        """The encoding of a word of these letters: its merges, done one by one."""
        *_, (word, _) = self._steps(letters)
        return word

    def _steps(self, letters: Sequence[int]) -> Iterator[tuple[list[int], int]]:
        """A word as it is merged: before each merge, with its rank, and in the end."""
        word = list(letters)
        merges = [self._merge_of(one, other) for one, other in pairwise(word)]
        while True:
            rank, at = min(((rank, at) for at, (rank, _) in enumerate(merges)), default=(_NEVER, 0))
            yield word, rank
            if rank == _NEVER:
                return
            word = [*word[:at], merges[at][1], *word[at + 2 :]]
            beside = range(max(at - 1, 0), min(at + 1, len(word) - 1))
            merges[max(at - 1, 0) : at + 2] = [self._merge_of(word[one], word[one + 1]) for one in beside]

    def _merge_of(self, left: int, right: int) -> tuple[int, int]:
        """The rank of the merge of two, and what it makes; or never."""
        key = left * self.size + right
        at = int(self._keys.searchsorted(key))
        if at < len(self._keys) and self._keys.item(at) == key:
            return self._ranks.item(at), self._results.item(at)
        return _NEVER, -1

    def letters(self, token: int) -> list[int]:
        """The letters that a reached entry is made of."""
        pending, letters = [token], []
        while pending:
            token = pending.pop()
            if self._left[token] < 0:
                letters.append(token)
            else:
                pending += [int(self._right[token]), int(self._left[token])]
        return letters

    def _collide(self, left: int, right: int, *, is_made: bool = False) -> bool:
        """As `_meets`, of two alone of which one is out of order: by all that is done to each."""
        of_left, of_right = self._history(left, -1), self._history(right, 0)
        at = to = 0
        while True:
            (ends_left, left), (ends_right, right) = of_left[at], of_right[to]
            is_top = ends_left == ends_right == _NEVER
            rank = _NEVER if is_top and is_made else self._merge_of(left, right)[0]
            if rank < ends_left and rank <= ends_right:
                return True
            if is_top:
                return False
            at, to = (at + 1, to) if ends_left <= ends_right else (at, to + 1)

    def _history(self, token: int, edge: int) -> list[tuple[int, int]]:
        """What stands at an edge of a token, the first (0) or the last (-1) of its letters' word, while it is made: the
        rank of the merge that is done next, and the token.
        """
        key = (token, edge)
        if key in self._histories:
            return self._histories[key]
        if self._in_order[token]:  # then what stands there changes in the order of ranks, along its tree
            half = self._right if edge else self._left
            history = [(_NEVER, token)]
            while self._left[token] >= 0:
                rank, token = self._rank.item(token), half.item(token)
                history.append((rank, token))
            return history[::-1]
        self._histories[key] = [(rank, word[edge]) for word, rank in self._steps(self.letters(token))]
        return self._histories[key]

    def _ranks_of(self, left: Ints, right: Ints) -> Ints:
        """(n,) the rank of the merge of each two, or never."""
        if not len(self._keys):
            return np.full(len(left), _NEVER)
        keys = left * self.size + right
        at = np.minimum(np.searchsorted(self._keys, keys), len(self._keys) - 1)
        return np.where(self._keys[at] == keys, self._ranks[at], _NEVER)

    def _meets(self, left: Ints, right: Ints, *, is_made: bool) -> Bools:
        """(n,) whether two tokens meet at the seam that merge: walked back from when both are made.

        Args:
            left: of each pair.
            right: of each pair.
            is_made: whether the two themselves are merged in the end, which does not count.
        """
        meets = np.zeros(len(left), dtype=bool)
        pair = np.arange(len(left))
        ends_left, ends_right = np.full(len(left), _NEVER), np.full(len(left), _NEVER)
        is_top = is_made
        while len(pair):
            if not is_top:
                rank = self._ranks_of(left, right)
                wins = (rank < ends_left) & (rank <= ends_right) & (rank < _NEVER)  # of equal ranks the leftmost
                meets[pair[wins]] = True
            else:
                wins = np.zeros(len(pair), dtype=bool)
            is_top = False
            rank_left, rank_right = self._rank[left], self._rank[right]
            on = ~wins & ((rank_left >= 0) | (rank_right >= 0))
            back_left = rank_left > rank_right  # what was made last is undone first; of equal ones the right
            ends_left = np.where(back_left, rank_left, ends_left)[on]
            ends_right = np.where(back_left, ends_right, rank_right)[on]
            left, right = (
                np.where(back_left, self._right[left], left)[on],
                np.where(back_left, right, self._left[right])[on],
            )
            pair = pair[on]
        return meets

    def _meet(self, left: int, right: int) -> bool:
        """The same of two alone, which is quicker without arrays."""
        ends_left = ends_right = _NEVER
        while True:
            rank, _ = self._merge_of(left, right)
            if rank < ends_left and rank <= ends_right:
                return True
            rank_left, rank_right = self._rank.item(left), self._rank.item(right)
            if rank_left < 0 and rank_right < 0:
                return False
            if rank_left > rank_right:
                ends_left, left = rank_left, self._right.item(left)
            else:
                ends_right, right = rank_right, self._left.item(right)

    def _find_trees(self) -> None:
        """The last merge of each entry, shorter entries first: of several merges that make it, the one that comes."""
        sizes = self._lengths[self._made]
        order = _sorted_by(sizes)
        bounds = np.flatnonzero(np.diff(sizes[order], prepend=-1, append=_NEVER))
        for low, high in pairwise(bounds.tolist()):
            merges = order[low:high]
            left, right, made = self._l[merges], self._r[merges], self._made[merges]
            halves = self.reached[left] & self.reached[right] & ~self.reached[made]
            merges, left, right, made = merges[halves], left[halves], right[halves], made[halves]
            in_order = self._in_order[left] & self._in_order[right]
            comes = in_order.copy()
            comes[in_order] = ~self._meets(left[in_order], right[in_order], is_made=True)
            self._take(merges[comes], halves_in_order=True)
            both = zip(left[~in_order].tolist(), right[~in_order].tolist(), strict=True)
            odd = np.array([not self._collide(*two, is_made=True) for two in both], dtype=bool)
            self._take(merges[~in_order][odd], halves_in_order=False)

    def _take(self, merges: Ints, *, halves_in_order: bool) -> None:
        left, right, made, rank = self._l[merges], self._r[merges], self._made[merges], self._rank_of_merge[merges]
        self._left[made], self._right[made], self._rank[made] = left, right, rank
        self.reached[made] = True
        self._in_order[made] = halves_in_order & (rank > self._rank[left]) & (rank > self._rank[right])

    def _number_forest(self) -> None:
        """Each entry hangs below its left half; of one left half, those that are made last come first.

        So what begins with `y` and keeps it until a rank is over are the numbers from that of `y` on, up to the last
        of its entries that are made at that rank or later. With the merges a+b, ab+a, b+ab and ab+b, of ranks 0 to 3:

            entry    a  ab  abb  aba  b  bab
            number   0   1    2    3  4    5

        b+ab, of rank 2, keeps [1, 3) from standing behind `b`: `ab`, and `abb`, in which `ab` stands until rank 3. In
        `aba` it is gone by then.
        """
        hanging = np.flatnonzero(self.reached & (self._left >= 0))
        base = len(self._keys) + int(self._ranks.max(initial=0)) + 2
        keys = self._left[hanging] * base + (base - 1 - self._rank[hanging])
        order = _sorted_by(keys)
        hanging, keys = hanging[order], keys[order]
        levels = _sorted_by(self._lengths[hanging])
        bounds = np.flatnonzero(np.diff(self._lengths[hanging][levels], prepend=-1, append=_NEVER)).tolist()
        groups = [hanging[levels[low:high]] for low, high in pairwise(bounds)]
        below = np.ones(self.size, dtype=np.int64)
        for tokens in reversed(groups):
            np.add.at(below, self._left[tokens], below[tokens])
        before = np.cumsum(below[hanging]) - below[hanging]
        begins = np.diff(self._left[hanging], prepend=-1) != 0
        offset = np.zeros(self.size, dtype=np.int64)
        offset[hanging] = before - np.maximum.accumulate(np.where(begins, before, 0))
        self._numbers = np.zeros(self.size, dtype=np.int64)
        roots = np.flatnonzero(self._left < 0)
        self._numbers[roots] = np.cumsum(below[roots]) - below[roots]
        for tokens in groups:
            self._numbers[tokens] = self._numbers[self._left[tokens]] + 1 + offset[tokens]
        self._find_intervals(hanging, keys, base, below)

    def _find_intervals(self, hanging: Ints, keys: Ints, base: int, below: Ints) -> None:
        """What each merge keeps from standing behind its left one: an interval of numbers."""
        useful = self.reached[self._l] & self.reached[self._r]
        left, right, rank = self._l[useful], self._r[useful], self._rank_of_merge[useful]
        # A merge that comes before its halves by rank is done as soon as both are made.
        rank = np.maximum(rank, np.maximum(self._rank[left], self._rank[right]))
        order = _sorted_by(left * base + rank)
        left, right, rank = left[order], right[order], rank[order]
        last = np.searchsorted(keys, right * base + (base - 1 - rank), side="right") - 1
        some = (last >= 0) & (self._left[hanging[last]] == right) if len(hanging) else np.zeros(len(left), dtype=bool)
        self._low = self._numbers[right]
        self._high = self._low + 1
        ends = hanging[last[some]]
        self._high[some] = self._numbers[ends] + below[ends]
        self._merge_rank = rank
        self._first_merge = np.searchsorted(left, np.arange(self.size + 1))

    def _blocked_by(self, left: int) -> Iterator[tuple[Ints, Ints]]:
        """The intervals of what may not follow a token: those of each merge on its right spine that comes in time."""
        ends = _NEVER
        for token in self._right_spine(left):
            low, high = self._first_merge.item(token), self._first_merge.item(token + 1)
            high = low + int(self._merge_rank[low:high].searchsorted(ends))
            if high > low:
                yield self._low[low:high], self._high[low:high]
            ends = self._rank.item(token)

    def _right_spine(self, token: int) -> Iterator[int]:
        """A token, its right half, the right half of that, and so on."""
        yield token
        while self._left.item(token) >= 0:
            token = self._right.item(token)
            yield token


def _sorted_by(keys: Ints) -> Ints:
    """The indices of keys, ascending, of equal ones in order: sorted together with them, which is the quickest."""
    bits = max(len(keys), 1).bit_length()
    if keys.max(initial=0) >> (62 - bits):
        return np.argsort(keys, kind="stable")
    return np.sort(keys << bits | np.arange(len(keys))) & ((1 << bits) - 1)


class Candidates:
    """Tokens that may follow, sorted by their numbers in the forest of left halves: an interval stands together.

    Of numbers [40 10 30], order is [1 2 0] and sorted [10 30 40]. The intervals [0, 20) and [35, 50) begin at [0 2] of
    these and end at [1 3], with [1 1] in each. What is left out before each is skipped = [0 1], so that those within
    are order[[0 1] + [0 1]] = order[[0 2]] = [1 0].

    Args:
        tokens: (n,) ids.
        numbers: (n,) of them.
        is_odd: (n,) whether merges reach them of which the forest does not say what becomes.
        unreached: the indices of those that no merges reach.
        odd: token → the indices of the odd ones that some merge joins with it while they are made.
    """

    def __init__(
        self, tokens: Ints, numbers: Ints, is_odd: Bools, unreached: Ints, odd: Mapping[int, Sequence[int]]
    ) -> None:
        self.tokens, self.is_odd, self.unreached, self.odd = tokens, is_odd, unreached, odd
        self._order = _sorted_by(numbers)
        self._sorted = numbers[self._order]

    def within(self, low: Ints, high: Ints) -> Ints:
        """The indices of those whose numbers are in these intervals; in two of them, twice."""
        begins, ends = self._sorted.searchsorted(low), self._sorted.searchsorted(high)
        counts = ends - begins
        skipped = np.repeat(begins - np.cumsum(counts) + counts, counts)
        found: Ints = self._order[np.arange(len(skipped)) + skipped]
        return found
