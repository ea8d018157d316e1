"""A stretch of a format as a tree of canonical encodings, built where it is walked.

A state is what the tokens so far may have spelled, and what the rule of words keeps of the word under way. A token that
may follow leads either behind the end of a word, or on in one; those from where no encoding goes on are left out. Joins
the spelling of a stretch to a vocabulary and its rule; knows no other stretch.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from ..arrays import Bools, Ints
from ..tokenization.letters import UNKNOWN
from ..tokenization.stages import Atom
from ..tokenization.vocabulary import Trie
from ..tokenization.word_rule import FRESH, Entries, Watch, WordRule
from .parts import Follows, merged
from .spelling import Spelling, Unit

_WORD_BITS = 35
_WORD = (1 << _WORD_BITS) - 1
_MIXED = 1 << 55  # from here on, a state stands for several
_MOST_SETS = _MIXED >> _WORD_BITS
_SHORT = 8  # entries that are tried first when it is looked for one that goes on
_NONE = np.empty(0, dtype=np.int64)
_UNKNOWN, _LIVES, _DEAD = 0, 1, 2
_FEW_ENTRIES, _MOST_ROWS = 4096, 20_000


class UnknownCharacters(Exception):
    """A character of the format that the vocabulary does not know, in a text that has it."""


@dataclass
class _Following:
    """Entries that may be spelled next, and the sets of nodes that they lead to.

    Args:
        entries: ascending by id.
        sets: (n,) where each leads.
        lengths: (n,) how many units each has.
        lives: (n,) whether a text can go on behind each in a plain word; None as long as nobody asked.
        short: a few of them, the shortest first.
    """

    entries: Entries
    sets: Ints
    lengths: Ints
    short: list[int]
    lives: NDArray[np.int8] | None = None


@dataclass
class _Plain:
    """What may follow a set of nodes, whatever plain state the word is in: all that the rule may let follow, of which
    it is asked, and what begins a word.

    Args:
        all: of both, ascending by token.
        along: (n_entries,) where those stand that go on in the word.
        entries: these.
    """

    all: Follows
    along: Ints
    entries: Entries

    @classmethod
    def of(cls, along: Follows, cut: Follows, entries: Entries) -> _Plain:
        """Of lists that have no token in common."""
        both = merged([along, cut], lambda _: -1)
        return cls(both, np.searchsorted(both.tokens, along.tokens), entries)

    def kept(self, rule: WordRule, word: int) -> Ints:
        """The places of what follows one state of the word."""
        is_kept = np.ones(len(self.all.tokens), dtype=bool)
        is_kept[self.along[rule.forbidden(word, self.entries)]] = False
        return np.flatnonzero(is_kept)


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
        self._sets = Sets(spelling)
        self._following: dict[tuple[int, bool, bool], _Following] = {}
        self._begun: dict[int, Follows] = {}
        self._plain: dict[int, _Plain | None] = {}
        self._goes_on: dict[tuple[int, int], bool] = {}
        self._entries: dict[tuple[bool, bytes], Entries] = {}
        self._rows: dict[tuple[int, Entries], Bools] = {}
        self._prepared: set[int] = set()
        self._mixed: list[tuple[int, ...]] = []
        self._mixed_numbers: dict[tuple[int, ...], int] = {}
        start = self._sets.number(spelling.starts)
        self.start = start << _WORD_BITS
        rows = self._sets.rows(start)
        # Too many where what stands between words leaves no trace; then `open_tokens` are not known.
        self.num_encodings, self.depth = rows.count, rows.longest
        # A token that stands by itself and is an entry too may be written in two ways.
        self._has_twins = any(rule.first.node(atom) >= 0 or rule.further.node(atom) >= 0 for atom in rows.atoms)
        self.open_tokens = None if rows.is_open or self._has_twins else frozenset[int]()

    @cached_property
    def most_copies(self) -> int:
        """How many texts have one encoding, at most."""
        return self._spelling.num_texts if self._has_twins else self._spelling.most_ways

    def follows(self, state: int) -> Follows:
        """As of a part."""
        if state >= _MIXED:
            return merged([self.follows(one) for one in self._mixed[state - _MIXED]], self._join)
        shared = self.shared(state)
        if shared is not None:
            return shared[0].take(shared[1])
        nodes, word = state >> _WORD_BITS, state & _WORD
        found = [self._along(nodes, word)]
        if word not in self._rule.unended:
            found.append(self._cut(nodes))
        return merged(found, self._join)

    def shared(self, state: int) -> tuple[Follows, Ints] | None:
        """As of a part."""
        nodes, word = state >> _WORD_BITS, state & _WORD
        plain = self._plain_of(nodes) if state < _MIXED and self._rule.is_plain(word) else None
        return None if plain is None else (plain.all, plain.kept(self._rule, word))

    def _along(self, nodes: int, word: int) -> Follows:
        """What goes on in the word."""
        following = self._following_of(nodes, is_cut=False, is_first=word == FRESH)
        return self._living(following, *self._rule.after(word, following.entries))

    def _cut(self, nodes: int) -> Follows:
        """What begins a word."""
        if nodes not in self._begun:
            following = self._following_of(nodes, is_cut=True, is_first=True)
            words = self._living(following, *self._rule.after(FRESH, following.entries))
            atoms = [self._behind_atom(atom, after) for atom, after in self._atoms(nodes)]
            self._begun[nodes] = merged([words, *atoms], self._join)
        return self._begun[nodes]

    def _plain_of(self, nodes: int) -> _Plain | None:
        """What may follow in plain states of words, if no token both begins a word and goes on in one."""
        if nodes not in self._plain:
            following = self._following_of(nodes, is_cut=False, is_first=False)
            every = np.arange(len(following.sets))
            along = self._living(following, every, self._rule.behind_plain(following.entries))
            entries = following.entries.take(np.searchsorted(following.entries.tokens, along.tokens))
            cut = self._cut(nodes)
            is_told_apart = not len(np.intersect1d(along.tokens, cut.tokens, assume_unique=True))
            self._plain[nodes] = _Plain.of(along, cut, entries) if is_told_apart else None
        return self._plain[nodes]

    def after(self, state: int, token: int) -> tuple[int, bool] | None:
        """As of a part."""
        if state >= _MIXED:
            found = [one for each in self._mixed[state - _MIXED] if (one := self.after(each, token)) is not None]
        else:
            found = list(self._after(state >> _WORD_BITS, state & _WORD, token))
        if not found:
            return None
        states = sorted({one for one, _ in found})
        return (states[0] if len(states) == 1 else self._join(states)), any(ends for _, ends in found)

    def ends(self, state: int) -> bool:
        """As of a part."""
        if state >= _MIXED:
            return any(map(self.ends, self._mixed[state - _MIXED]))
        return self._sets.ends(state >> _WORD_BITS) and (state & _WORD) not in self._rule.unended

    def read(self, tokens: Sequence[int]) -> tuple[str, int] | None:
        """As of a part."""
        reached = {(node, FRESH): (self._spelling.lead, 1) for node in self._spelling.starts}
        for token in tokens:
            reached = self._read_token(reached, token)
        found = [
            (text + out.text, ways * out.ends)
            for (node, word), (text, ways) in reached.items()
            if (out := self._spelling.out(node)).ends and word not in self._rule.unended
        ]
        return (found[0][0], sum(ways for _, ways in found)) if found else None

    def most_below(self, state: int) -> int:
        """As of a part."""
        if state >= _MIXED:
            return sum(map(self.most_below, self._mixed[state - _MIXED]))
        return sum(map(self._spelling.completions, self._sets.nodes(state >> _WORD_BITS)))

    def _living(self, following: _Following, which: Ints, words: Ints) -> Follows:
        """Some of what may be spelled, with the states of words behind it, but for what goes nowhere."""
        if len(words) and words.max() > _WORD:  # or two states would have one number
            raise MemoryError(f"a token tree of more than {_WORD:,} states of words")
        sets = following.sets[which]
        may_end = self._may_end(words)
        ends, on = self._sets.are_ends(sets) & may_end, self._sets.have_cuts(sets) & may_end
        along = self._sets.have_along(sets)
        unsure = np.flatnonzero(along & ~on)
        if len(unsure):
            on[unsure] = self._go_on(sets[unsure], words[unsure])
        kept = np.flatnonzero(ends | on)
        states = (sets << _WORD_BITS) | np.where(along | ~may_end, words, FRESH)
        return Follows(following.entries.tokens[which][kept], np.where(on, states, -1)[kept], ends[kept])

    def _may_end(self, words: Ints) -> Bools:
        if not self._rule.unended:
            return np.ones(len(words), dtype=bool)
        return ~np.isin(words, list(self._rule.unended))

    def _behind_atom(self, token: int, nodes: int) -> Follows:
        on = bool(self._sets.have_cuts(np.array([nodes]))[0])
        state = nodes << _WORD_BITS if on else -1
        return Follows(np.array([token]), np.array([state]), np.array([self._sets.ends(nodes)]))

    def _atoms(self, nodes: int) -> Iterator[tuple[int, int]]:
        """Tokens that stand by themselves and may follow, and where they lead."""
        for is_cut in (True, False):
            for unit, after in self._sets.after(nodes, is_cut).items():
                if isinstance(unit, Atom) and (is_cut or nodes == self.start >> _WORD_BITS):
                    yield unit.id, after

    def _go_on(self, sets: Ints, words: Ints) -> Bools:
        """(n,) whether some encoding goes on in the word."""
        on = np.zeros(len(sets), dtype=bool)
        for nodes in np.flatnonzero(np.bincount(sets)).tolist():
            of_set = np.flatnonzero(sets == nodes)
            on[of_set] = self._go_on_from(nodes, words[of_set])
        return on

    def _go_on_from(self, nodes: int, words: Ints) -> Sequence[bool] | Bools:
        if self._rule.has_watches:
            return self._keep_on(nodes, words)
        return self._followed(nodes, words.tolist())

    def _followed(self, nodes: int, words: list[int]) -> list[bool]:
        """Of words that are not watched: whether some entry follows from which an encoding goes on."""
        known = self._goes_on
        pending = [word for word in dict.fromkeys(words) if (nodes, word) not in known]
        if pending:
            self._prepare(nodes)
            following = self._following_of(nodes, is_cut=False, is_first=False)
            if len(pending) > 1 and all(map(self._rule.is_plain, pending)):
                pending = self._without_followed(nodes, pending, following)
            for word in pending:
                known[nodes, word] = self._finds_on(word, following)
        return [known[nodes, word] for word in words]

    def _keep_on(self, nodes: int, words: Ints) -> Bools:
        """Of words that are watched: for most one letter tells."""
        letters = sorted(unit for unit in self._sets.after(nodes, False) if isinstance(unit, str))
        on = self._rule.surely_on(words, letters) if letters else np.zeros(len(words), dtype=bool)
        for at in np.flatnonzero(~on).tolist():
            on[at] = self._keeps_on(nodes, int(words[at]))
        return on

    def _keeps_on(self, nodes: int, word: int) -> bool:
        """Whether some word that goes on here keeps the tokens so far, spelled by likely letters first."""
        watch = self._rule.watch(word)
        pending = [(watch, nodes, self._likeliest(watch, nodes))]
        while pending:
            watch, nodes, letters = pending[-1]
            letter = next(letters, None)
            if letter is None:
                pending.pop()
                continue
            behind, after = self._rule.watched(watch, letter), self._sets.after(nodes, False)[letter]
            if behind.is_sure:
                return True
            if behind.is_kept and (self._sets.ends(after) or self._sets.after(after, True)):
                return True
            if not behind.is_lost:
                pending.append((behind, after, self._likeliest(behind, after)))
        return False

    def _likeliest(self, watch: Watch, nodes: int) -> Iterator[str]:
        letters = [unit for unit in self._sets.after(nodes, False) if isinstance(unit, str)]
        return self._rule.likeliest(watch, letters)

    def _without_followed(self, nodes: int, words: list[int], following: _Following) -> list[int]:
        """Without those that one of the short entries follows, and goes on: most of many at once."""
        pending = np.array(words)
        behind = self._rule.behind_plain(following.entries)
        for at in following.short:
            if not len(pending):
                break
            allowed = self._rule.allowed_behind(pending, int(following.entries.tokens[at]))
            if allowed.any() and self._is_alive(int(following.sets[at]), int(behind[at])):
                for word in pending[allowed].tolist():
                    self._goes_on[nodes, word] = True
                pending = pending[~allowed]
        return pending.tolist()  # type: ignore[no-any-return]

    def _finds_on(self, word: int, following: _Following) -> bool:
        """Among the shortest entries first, of which one mostly does."""
        if self._rule.is_plain(word):
            return self._finds_on_from_plain(word, following)
        if len(following.sets) > len(following.short):
            short = np.sort(np.array(following.short, dtype=np.int64))
            which, words = self._rule.after(word, following.entries.take(short))
            if self._one_lives(following, short[which], words):
                return True
        return self._one_lives(following, *self._rule.after(word, following.entries))

    def _finds_on_from_plain(self, word: int, following: _Following) -> bool:
        """Which entries live does not depend on the word, and is remembered."""
        allowed = self._allowed(word, following.entries)
        lives = self._lives_of(following)
        if (allowed & (lives == _LIVES)).any():
            return True
        unknown = np.flatnonzero(allowed & (lives == _UNKNOWN))
        for at in unknown[np.argsort(following.lengths[unknown], kind="stable")].tolist():
            is_alive = self._is_alive(int(following.sets[at]), int(self._rule.behind_plain(following.entries)[at]))
            lives[at] = _LIVES if is_alive else _DEAD
            if is_alive:
                return True
        return False

    def _lives_of(self, following: _Following) -> NDArray[np.int8]:
        """(n,) whether each entry lives behind a plain word, as far as it is known."""
        if following.lives is None:
            may_end = self._may_end(self._rule.behind_plain(following.entries))
            sure = may_end & (self._sets.are_ends(following.sets) | self._sets.have_cuts(following.sets))
            following.lives = np.where(sure, _LIVES, _UNKNOWN).astype(np.int8)
        return following.lives

    def _allowed(self, word: int, entries: Entries) -> Bools:
        """What the rule lets follow, remembered where it is little."""
        if len(entries.tokens) > _FEW_ENTRIES:
            return self._rule.allowed(word, entries)
        key = (word, entries)
        if key not in self._rows:
            if len(self._rows) > _MOST_ROWS:
                self._rows.clear()
            self._rows[key] = self._rule.allowed(word, entries)
        return self._rows[key]

    def _one_lives(self, following: _Following, which: Ints, words: Ints) -> bool:
        sets = following.sets[which]
        sure = self._may_end(words) & (self._sets.are_ends(sets) | self._sets.have_cuts(sets))
        if sure.any():
            return True
        order = np.argsort(following.lengths[which], kind="stable") if len(which) > 1 else np.arange(len(which))
        return any(self._is_alive(int(sets[at]), int(words[at])) for at in order.tolist())

    def _is_alive(self, nodes: int, word: int) -> bool:
        """Whether a text ends here, or some encoding goes on."""
        may_end = word not in self._rule.unended
        if may_end and (self._sets.ends(nodes) or self._sets.after(nodes, True)):
            return True
        return bool(self._sets.after(nodes, False)) and bool(self._go_on_from(nodes, np.array([word]))[0])

    def _prepare(self, nodes: int) -> None:
        """Begin at the far end of long words, so that no search goes deep: from behind, one place at a time, each of
        which then finds the next one known. One chain is enough, since places behind letters alike are one.
        """
        if not self._rule.has_plain_states:
            return
        chain = []
        while nodes not in self._prepared and not self._sets.after(nodes, True) and self._sets.after(nodes, False):
            self._prepared.add(nodes)
            chain.append(nodes)
            nodes = next(iter(self._sets.after(nodes, False).values()))
        for nodes, before in zip(chain[:0:-1], chain[-2::-1], strict=True):
            following = self._following_of(before, is_cut=False, is_first=False)
            for at in following.short:
                if following.sets[at] == nodes:
                    self._followed(nodes, [int(self._rule.behind_plain(following.entries)[at])])

    def _following_of(self, nodes: int, *, is_cut: bool, is_first: bool) -> _Following:
        key = (nodes, is_cut, is_first)
        if key not in self._following:
            trie = self._rule.first if is_first else self._rule.further
            tokens, ends, sets, lengths = self._sets.spell(nodes, is_cut, trie)
            order = np.argsort(tokens, kind="stable")
            short = np.argsort(lengths[order], kind="stable")[:_SHORT].tolist()
            # The same entries follow at many places, and what the rule says of them is the same.
            alike = (trie is self._rule.first, ends[order].tobytes())
            entries = self._entries.setdefault(alike, Entries(tokens[order], ends[order]))
            self._following[key] = _Following(entries, sets[order], lengths[order], short)
        return self._following[key]

    def _join(self, states: Sequence[int]) -> int:
        """One state for several behind the same token."""
        parts = sorted(
            {one for state in states for one in (self._mixed[state - _MIXED] if state >= _MIXED else (state,))}
        )
        words = {one & _WORD for one in parts if self._sets.after(one >> _WORD_BITS, False)} or {FRESH}
        sure = {one & _WORD for one in parts}
        if len(words) == 1 and not (sure | words) & self._rule.unended:
            nodes = {node for one in parts for node in self._sets.nodes(one >> _WORD_BITS)}
            return self._sets.number(nodes) << _WORD_BITS | words.pop()
        key = tuple(parts)
        if key not in self._mixed_numbers:
            self._mixed_numbers[key] = _MIXED + len(self._mixed)
            self._mixed.append(key)
        return self._mixed_numbers[key]

    def _after(self, nodes: int, word: int, token: int) -> Iterator[tuple[int, bool]]:
        for is_cut, before in ((False, word), (True, FRESH)):
            if is_cut and word in self._rule.unended:
                continue
            for behind, after in self._one(before, token):
                reached = self._sets.along(nodes, is_cut, behind)
                if reached is not None:
                    unended = after in self._rule.unended
                    kept = after if self._sets.after(reached, False) or unended else FRESH
                    yield reached << _WORD_BITS | kept, self._sets.ends(reached) and not unended
        for atom, reached in self._atoms(nodes) if word not in self._rule.unended else ():
            if atom == token:
                yield reached << _WORD_BITS, self._sets.ends(reached)

    def _one(self, word: int, token: int) -> Iterator[tuple[str, int]]:
        """The units of a token that the rule lets follow, and the state behind it."""
        trie = self._rule.first if word == FRESH else self._rule.further
        node = trie.node(token)
        after = -1 if node < 0 else self._rule.step(word, token)
        if after >= 0:
            yield trie.spelling(node), after

    def _read_token(
        self, reached: dict[tuple[int, int], tuple[str, int]], token: int
    ) -> dict[tuple[int, int], tuple[str, int]]:
        """The nodes behind one token more, each with the characters of one text, and the number of texts."""
        found: dict[tuple[int, int], tuple[str, int]] = {}

        def add(node: int, word: int, text: str, ways: int) -> None:
            before = found.get((node, word), (text, 0))
            found[node, word] = before[0], before[1] + ways

        allowed = {word: list(self._one(word, token)) for word in {FRESH, *(word for _, word in reached)}}
        for (node, word), (text, ways) in reached.items():
            out = self._spelling.out(node)
            for is_cut, before in ((False, word), (True, FRESH)):
                if is_cut and word in self._rule.unended:
                    continue
                steps = out.cut if is_cut else out.along
                for step in steps.get(Atom(token), []) if before == FRESH else []:
                    add(step.target, FRESH, text + step.text, ways * step.ways)
                for units, after in allowed[before]:
                    for last, more, count in self._spelling.paths(steps, units):
                        add(last, after, text + more, ways * count)
        return found


@dataclass(frozen=True)
class Spellings:
    """All rows of units and cuts that a stretch may be spelled as.

    Args:
        count: how many there are.
        longest: the most units of one.
        is_open: whether some end where others go on, or the same unit both begins a word and goes on in one.
        atoms: the tokens that stand by themselves in some.
    """

    count: int
    longest: int
    is_open: bool
    atoms: frozenset[int]


class Sets:
    """Sets of nodes of a spelling, and what leads from one to the next; numbers stand for them.

    Args:
        spelling: of a stretch.
    """

    def __init__(self, spelling: Spelling) -> None:
        self._spelling = spelling
        self._numbers: dict[tuple[int, ...], int] = {}
        self._nodes: list[tuple[int, ...]] = []
        self._after: list[dict[bool, dict[Unit, int]]] = []
        self._columns = np.zeros(0x110000, dtype=np.int32)  # of each unit; 0 for those that do not come
        self._num_columns = 1
        self._table = np.full((16, 8), -2, dtype=np.int32)  # -2 is not known yet
        self._is_end, self._has_cut, self._has_along = (np.zeros(16, dtype=bool) for _ in range(3))

    def number(self, nodes: Iterable[int]) -> int:
        """The number of a set."""
        key = tuple(sorted(set(nodes)))
        if key not in self._numbers:
            if len(self._nodes) == _MOST_SETS:
                raise MemoryError(f"a token tree of more than {_MOST_SETS:,} sets of places")
            self._numbers[key] = len(self._nodes)
            self._nodes.append(key)
            self._after.append({})
            self._know(len(self._nodes) - 1)
        return self._numbers[key]

    def nodes(self, number: int) -> tuple[int, ...]:
        """The set of a number."""
        return self._nodes[number]

    def ends(self, number: int) -> bool:
        """Whether a text ends at one of its nodes."""
        return bool(self._is_end[number])

    def are_ends(self, numbers: Ints) -> Bools:
        """(n,) the same of many."""
        return self._is_end[numbers]

    def have_cuts(self, numbers: Ints) -> Bools:
        """(n,) whether a word may begin next."""
        return self._has_cut[numbers]

    def have_along(self, numbers: Ints) -> Bools:
        """(n,) whether a word may go on."""
        return self._has_along[numbers]

    def after(self, number: int, is_cut: bool) -> dict[Unit, int]:
        """Unit → the set behind it, beginning a word or going on in one."""
        known = self._after[number]
        if is_cut not in known:
            found: dict[Unit, set[int]] = {}
            for node in self._nodes[number]:
                out = self._spelling.out(node)
                for unit, steps in (out.cut if is_cut else out.along).items():
                    found.setdefault(unit, set()).update(step.target for step in steps)
            known[is_cut] = {unit: self.number(nodes) for unit, nodes in found.items()}
        return known[is_cut]

    def along(self, number: int, is_cut: bool, units: str) -> int | None:
        """The set behind units of one token."""
        for unit in units:
            reached = self.after(number, is_cut).get(unit)
            if reached is None:
                return None
            number, is_cut = reached, False
        return number

    def spell(self, number: int, is_cut: bool, trie: Trie) -> tuple[Ints, Ints, Ints, Ints]:
        """All entries that may be spelled next: their ids, where they end in the vocabulary, the sets behind them, and
        how many units they have.
        """
        begun = [
            (child, after)
            for unit, after in self.after(number, is_cut).items()
            if isinstance(unit, str) and (child := trie.child(Trie.root, unit)) >= 0
        ]
        at = np.array([child for child, _ in begun], dtype=np.int64)
        sets = np.array([after for _, after in begun], dtype=np.int64)
        found, length = [], 1
        while len(at):
            ends = trie.entry[at] >= 0
            found.append((trie.entry[at[ends]], at[ends], sets[ends], np.full(int(ends.sum()), length)))
            which, children = trie.children(at)
            columns = self._columns[trie.unit[children]]
            which, children, columns = which[columns > 0], children[columns > 0], columns[columns > 0]
            after = self._table[sets[which], columns]
            if (after == -2).any():
                for one in np.unique(sets[which[after == -2]]).tolist():
                    self._fill(one)
                columns = self._columns[trie.unit[children]]
                after = self._table[sets[which], columns]
            on = after >= 0
            at, sets, length = children[on], after[on].astype(np.int64), length + 1
        if not found:
            return _NONE, _NONE, _NONE, _NONE
        tokens, nodes, targets, lengths = map(np.concatenate, zip(*found, strict=True))
        return tokens, nodes, targets, lengths

    def rows(self, start: int) -> Spellings:
        """All that leads on from a set to an end: goes through all sets, without recursion.

        Raises:
            UnknownCharacters: the vocabulary lacks one.
        """
        counts, longest = dict[int, int](), dict[int, int]()
        atoms = set[int]()
        is_open, stack = False, [start]
        while stack:
            number = stack[-1]
            begin, along = self.after(number, True), self.after(number, False)
            behind = [*begin.values(), *along.values()]
            waiting = [after for after in behind if after not in counts]
            if waiting:
                stack += waiting
                continue
            stack.pop()
            counts[number] = self.ends(number) + sum(counts[after] for after in behind)
            longest[number] = max((longest[after] + 1 for after in behind), default=0)
            atoms.update(unit.id for unit in (*begin, *along) if isinstance(unit, Atom))
            is_open |= (self.ends(number) and bool(behind)) or not begin.keys().isdisjoint(along)
        return Spellings(counts[start], longest[start], is_open, frozenset(atoms))

    def _know(self, number: int) -> None:
        if number >= len(self._table):
            more = len(self._table)
            self._table = np.concatenate([self._table, np.full_like(self._table, -2)])
            for name in ("_is_end", "_has_cut", "_has_along"):
                setattr(self, name, np.concatenate([getattr(self, name), np.zeros(more, dtype=bool)]))
        for node in self._nodes[number]:
            out = self._spelling.out(node)
            for unit in (*out.along, *out.cut):
                if unit == UNKNOWN:
                    raise UnknownCharacters
                if isinstance(unit, str) and not self._columns[ord(unit)]:
                    self._columns[ord(unit)] = self._num_columns
                    self._num_columns += 1
            self._is_end[number] |= out.ends > 0
            self._has_cut[number] |= bool(out.cut)
            self._has_along[number] |= bool(out.along)
        while self._num_columns > self._table.shape[1]:
            self._table = np.concatenate([self._table, np.full_like(self._table, -2)], axis=1)
            # What was filled has nothing behind a unit that was not there.
            filled = self._table[:, 0] == -1
            self._table[filled] = np.where(self._table[filled] == -2, -1, self._table[filled])

    def _fill(self, number: int) -> None:
        after = self.after(number, False)
        self._table[number] = -1
        for unit, behind in after.items():
            if isinstance(unit, str):
                self._table[number, self._columns[ord(unit)]] = behind
