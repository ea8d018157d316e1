"""A stretch of a format as a tree of canonical encodings, built where it is walked.

Theory. One text can be written in many rows of tokens; *canonical* is the one that the tokenizer gives (Vieira et al.,
ICML 2025, arXiv 2506.07956). A tree of a format must hold the canonical rows of its fills and no others, and there are
too many fills to encode. Three facts let it be made token by token.

1.  A tokenizer cuts a text into words and encodes each by itself. `spelling` gives all fills as units with cuts, so
    that behind a cut nothing matters but where in the spelling it is.
2.  Within a word, whether a token may come next is told by a state that is worked out from the model, the rule of
    words. For merges the state is the last token: a row is canonical if each two neighbours are (`merges` says why).
    `t h e`, each of one letter, is refused at `t h` if that is a merge; nobody needs to know the word's end.
3.  What may come later depends on these two alone: where the tokens so far may have led in the spelling, a *set of
    nodes*, since a text that goes on may be cut in several ways as yet; and the *state of the word*.

So the pair is the state of an automaton over tokens. From one state, the vocabulary's tree is walked along the
spelling for all entries that may be written next, those that the rule refuses are struck out, and of the rest those
from where no text's encoding goes on (`dead_ends`). A token may both go on in a word and begin one; the two are
joined. Fills that the tokenizer spells alike are one row, and `token_reading` knows how many they are.

Joins the spelling of a stretch to a vocabulary and its rule; knows no other stretch.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ...arrays import Bools, Ints
from ...tokenization.stages import Atom
from ...tokenization.word_rule import FRESH, Entries, WordRule
from ..parts import Follows, Selection, merged
from .dead_ends import dead_ends
from .node_sets import NodeSets
from .spelling import Spelling
from .spelling_counts import spelling_counts
from .state_numbers import MIXED, WORD, WORD_BITS, StateNumbers
from .token_reading import TokenReader
from .word_steps import Following, Followings, may_end, word_step


class Canonical:
    """The canonical encodings of a stretch, as a part of a tree.

    A state's number holds the set of nodes that the tokens so far may have spelled, and the state of the word under
    way: fresh where words are cut for certain, so that what came before does not matter.

    Args:
        spelling: of the stretch.
        rule: of the words.

    Raises:
        UnknownCharacters: the vocabulary lacks one.
    """

    def __init__(self, spelling: Spelling, rule: WordRule) -> None:
        self._spelling, self._rule = spelling, rule
        self._sets = NodeSets(spelling)
        self._followings = Followings(self._sets, rule)
        self._dead_ends = dead_ends(self._sets, rule, self._followings)
        self._numbers = StateNumbers(self._sets, rule)
        self._reader = TokenReader(spelling, rule)
        self._begun: dict[int, Follows] = {}
        self._plain: dict[int, _PlainFollows | None] = {}
        start = self._sets.number(spelling.starts)
        self.start = start << WORD_BITS
        counts = spelling_counts(self._sets, start)
        # Too many where what stands between words leaves no trace; then `open_tokens` are not known.
        self.num_encodings, self.depth = counts.count, counts.longest
        # A token that stands by itself and is an entry too may be written in two ways.
        self._has_twins = any(rule.first.node(atom) >= 0 or rule.further.node(atom) >= 0 for atom in counts.atoms)
        self.open_tokens = None if counts.is_open or self._has_twins else frozenset[int]()

    @cached_property
    def most_copies(self) -> int:
        """How many texts have one encoding, at most."""
        return self._spelling.num_texts if self._has_twins else self._spelling.most_alike

    def follows(self, state: int) -> Follows:
        """As of a part."""
        if state >= MIXED:
            return merged(list(map(self.follows, self._numbers.states_of(state))), self._numbers.join)
        selection = self.selection(state)
        if selection is not None:
            return selection.follows.take(selection.indices)
        nodes, word = state >> WORD_BITS, state & WORD
        lists = [self._along(nodes, word)]
        if word not in self._rule.unended:
            lists.append(self._cut(nodes))
        return merged(lists, self._numbers.join)

    def selection(self, state: int) -> Selection | None:
        """As of a part."""
        nodes, word = state >> WORD_BITS, state & WORD
        plain = self._plain_of(nodes) if state < MIXED and self._rule.is_plain(word) else None
        return None if plain is None else Selection(plain.all, plain.indices(self._rule, word))

    def after(self, state: int, token: int) -> tuple[int, bool] | None:
        """As of a part."""
        if state >= MIXED:
            each = (self.after(one, token) for one in self._numbers.states_of(state))
            behind = [one for one in each if one is not None]
        else:
            behind = list(self._after(state >> WORD_BITS, state & WORD, token))
        if not behind:
            return None
        states = sorted({one for one, _ in behind})
        return (states[0] if len(states) == 1 else self._numbers.join(states)), any(ends for _, ends in behind)

    def ends(self, state: int) -> bool:
        """As of a part."""
        if state >= MIXED:
            return any(map(self.ends, self._numbers.states_of(state)))
        return self._sets.ends(state >> WORD_BITS) and (state & WORD) not in self._rule.unended

    def read(self, tokens: Sequence[int]) -> tuple[str, int] | None:
        """As of a part."""
        return self._reader.read(tokens)

    def most_below(self, state: int) -> int:
        """As of a part."""
        if state >= MIXED:
            return sum(map(self.most_below, self._numbers.states_of(state)))
        return sum(map(self._spelling.completions, self._sets.nodes(state >> WORD_BITS)))

    def _along(self, nodes: int, word: int) -> Follows:
        """What goes on in the word."""
        following = self._followings.of(nodes, is_cut=False, is_first=word == FRESH)
        return self._living(following, *self._rule.after(word, following.entries))

    def _cut(self, nodes: int) -> Follows:
        """What begins a word."""
        if nodes not in self._begun:
            following = self._followings.of(nodes, is_cut=True, is_first=True)
            words = self._living(following, *self._rule.after(FRESH, following.entries))
            atoms = [self._behind_atom(atom, after) for atom, after in self._atoms(nodes)]
            self._begun[nodes] = merged([words, *atoms], self._numbers.join)
        return self._begun[nodes]

    def _plain_of(self, nodes: int) -> _PlainFollows | None:
        """What may follow in plain states of words, if no token both begins a word and goes on in one."""
        if nodes not in self._plain:
            following = self._followings.of(nodes, is_cut=False, is_first=False)
            every = np.arange(len(following.sets))
            along = self._living(following, every, self._rule.behind_plain(following.entries))
            entries = following.entries.take(np.searchsorted(following.entries.tokens, along.tokens))
            cut = self._cut(nodes)
            are_apart = not len(np.intersect1d(along.tokens, cut.tokens, assume_unique=True))
            self._plain[nodes] = _PlainFollows.of(along, cut, entries) if are_apart else None
        return self._plain[nodes]

    def _living(self, following: Following, which: Ints, words: Ints) -> Follows:
        """Some of what may be spelled, with the states of words behind it, but for what goes nowhere."""
        if len(words) and words.max() > WORD:  # or two states would have one number
            raise MemoryError(f"a token tree of more than {WORD:,} states of words")
        sets = following.sets[which]
        can_end = may_end(self._rule, words)
        ends, on = self._sets.are_ends(sets) & can_end, self._sets.have_cuts(sets) & can_end
        along = self._sets.have_along(sets)
        unsure = np.flatnonzero(along & ~on)
        if len(unsure):
            on[unsure] = self._go_on(sets[unsure], words[unsure])
        living = np.flatnonzero(ends | on)
        states = (sets << WORD_BITS) | np.where(along | ~can_end, words, FRESH)
        return Follows(following.entries.tokens[which][living], np.where(on, states, -1)[living], ends[living])

    def _go_on(self, sets: Ints, words: Ints) -> Bools:
        """(n,) whether some encoding goes on in the word."""
        on = np.zeros(len(sets), dtype=bool)
        for nodes in np.flatnonzero(np.bincount(sets)).tolist():
            of_set = np.flatnonzero(sets == nodes)
            on[of_set] = self._dead_ends.goes_on(nodes, words[of_set])
        return on

    def _behind_atom(self, token: int, nodes: int) -> Follows:
        on = bool(self._sets.have_cuts(np.array([nodes]))[0])
        state = nodes << WORD_BITS if on else -1
        return Follows(np.array([token]), np.array([state]), np.array([self._sets.ends(nodes)]))

    def _atoms(self, nodes: int) -> Iterator[tuple[int, int]]:
        """Tokens that stand by themselves and may follow, and where they lead."""
        for is_cut in (True, False):
            for unit, after in self._sets.after(nodes, is_cut).items():
                if isinstance(unit, Atom) and (is_cut or nodes == self.start >> WORD_BITS):
                    yield unit.id, after

    def _after(self, nodes: int, word: int, token: int) -> Iterator[tuple[int, bool]]:
        """The states behind a token, and whether a text ends there: on in the word, behind a cut, or an atom."""
        unended = self._rule.unended
        cut = [] if word in unended else [(True, FRESH)]
        for is_cut, before in [(False, word), *cut]:
            step = word_step(self._rule, before, token)
            reached = None if step is None else self._sets.behind(nodes, is_cut, step[0])
            if step is not None and reached is not None:
                moved = step[1]
                matters = moved in unended or self._sets.after(reached, False)
                ends = self._sets.ends(reached) and moved not in unended
                yield reached << WORD_BITS | (moved if matters else FRESH), ends
        for atom, reached in self._atoms(nodes) if word not in unended else ():
            if atom == token:
                yield reached << WORD_BITS, self._sets.ends(reached)


@dataclass
class _PlainFollows:
    """What may follow a set of nodes, whatever plain state the word is in, of which the last token is all that matters:
    every entry that goes on in the word, of which each state strikes some out, and what begins a word.

    For two entries 10 and 30 that go on in the word, and 20 that begins one, all.tokens is [10 20 30] and along is
    [0 2]. If the rule forbids entry 1 of the two behind some state, along[1] = 2 is struck out, and indices [0 1] are
    left: tokens 10 and 20.

    Args:
        all: of both, ascending by token.
        along: (n_entries,) the indices in it of those that go on in the word.
        entries: these.
    """

    all: Follows
    along: Ints
    entries: Entries

    @classmethod
    def of(cls, along: Follows, cut: Follows, entries: Entries) -> _PlainFollows:
        """Of lists that have no token in common."""
        both = merged([along, cut], lambda _: -1)
        return cls(both, np.searchsorted(both.tokens, along.tokens), entries)

    def indices(self, rule: WordRule, word: int) -> Ints:
        """Of what follows one state of the word."""
        follows = np.ones(len(self.all.tokens), dtype=bool)
        follows[self.along[rule.forbidden(word, self.entries)]] = False
        return np.flatnonzero(follows)
