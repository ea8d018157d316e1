"""Trees of tokenizers made up at random have the encodings of all fills as leaves, and walks on them are exact.

`python benchmarks/trees_fuzz.py` goes on from here for as long as one likes, and makes what fails small.
"""

from collections import Counter

import pytest

from tests.support import laws_of_trees as laws
from tests.support.laws_of_trees import Case
from tests.support.repetitions import times


def expect_equal(numbers, *, large=0.0, **how):
    """All laws hold in each case, but for refusals, which are fewer than what is followed and come from no fault."""
    kinds = Counter()
    for number in numbers:
        case = laws.random_case(number, large=large)
        verdict = laws.judged(case, **how)
        said = f"case {number}: {verdict}\n{case.features()}\n{case.template!r} {case.spaces}"
        is_right = not verdict.is_fault and verdict.kind != laws.OWN_CHECK
        # Dead ends of long words are searched state by state where the rule has no short cut: slow, and not wrong.
        is_right |= bool(large) and verdict.kind == "takes too long" and "Unigram" in case.features()
        assert is_right, f"{said}\npython benchmarks/trees_fuzz.py --first {number} --cases 1"
        kinds[verdict.kind] += 1
    assert kinds["equal"] > 0.6 * sum(kinds.values()), kinds


@pytest.mark.parametrize("part", range(3))
def test_leaves_of_random_tokenizers_are_the_encodings_of_all_fills(part):
    """Derived from the tokenizer's parts, whatever these are; so are its texts, copies and bounds."""
    expect_equal(range(part, times(150), 3))


def test_leaves_of_large_formats_are_encodings_of_fills():
    """Of millions of fills some are looked at, and some of the leaves that one comes to by chance."""
    expect_equal(range(30_004, 30_004 + times(8)), large=1.0)


def test_so_are_they_where_all_fills_are_encoded():
    """As those of small formats are."""
    expect_equal(range(10_000, 10_000 + times(20)), listed=True)


def test_walks_on_them_are_those_of_brute_force():
    """Ranks, the ten likeliest, and the chances of draws."""
    expect_equal(range(20_000, 20_000 + times(15)), walks=True)


@pytest.mark.parametrize("listed", [False, True])
@pytest.mark.parametrize(
    ("words", "merges"),
    [
        (["ab", "abab"], []),
        (["ab", "abab", "aba", "b"], [["b", "a"]]),
        (["ab", "abc", "ababc"], [["b", "c"], ["a", "bc"]]),
    ],
)
@pytest.mark.parametrize("template", ["{w} {w}.", " {w} {w} a", "{w}. {w}!"])
def test_entries_that_merges_do_not_reach_begin_other_words(template, words, merges, listed):
    """`ab` is one token as a whole word and two where it begins one: what an encoding begins with is then none."""
    tokens = [*"abc. !", "ab", *map("".join, merges)]
    vocab = {token: number for number, token in enumerate(dict.fromkeys(tokens))}
    model = {"type": "BPE", **laws.BPE_OPTIONS, "ignore_merges": True, "vocab": vocab, "merges": merges}
    cuts = laws.split(r"\w+| ", "Isolated") if template[0] == " " else {"type": "WhitespaceSplit"}
    case = Case(model, None, cuts, template=template, spaces={"w": words})
    verdict = laws.judged(case, listed=listed)
    assert verdict.kind == "equal", verdict


@pytest.mark.parametrize("listed", [False, True])
def test_words_of_which_one_has_two_tokens_and_a_mark_at_its_end(listed):
    """CLIP's kind: `nk` is `n` and `k</w>`, all other words are one token. What begins it is no text's encoding."""
    first, second = ([a + b for a in letters for b in "lkjih"] for letters in ("gfedcba", "rqponm"))
    merges = [["'", "l"], ["'", "s</w>"], ["'l", "l</w>"]]
    merges += [[word[0], f"{word[1]}</w>"] for word in sorted(first + second) if word != "nk"]
    letters = "abcdefghijklmnopqrs'."
    tokens = [*letters, *(f"{letter}</w>" for letter in letters), *map("".join, merges)]
    vocab = {token: number for number, token in enumerate(tokens)}
    model = {"type": "BPE", **laws.BPE_OPTIONS, "end_of_word_suffix": "</w>", "vocab": vocab, "merges": merges}
    squeezed = [{"type": "NFC"}, laws.replaced(r"\s+", " ", regex=True), {"type": "Lowercase"}]
    cuts = [laws.split(laws.CLIP, "Removed", invert=True), laws.byte_level()]
    case = Case(
        model,
        laws.sequence(squeezed, "normalizers"),
        laws.sequence(cuts, "pretokenizers"),
        template="{a}'s {b}'ll.",
        spaces={"a": first, "b": second},
    )
    verdict = laws.judged(case, listed=listed)
    assert (verdict.kind, verdict.leaves) == ("equal", 35 * 30), verdict


def test_a_tree_that_loses_leaves_is_found_out(monkeypatch):
    """... or has some that are none, or counts too few: the laws see it."""
    case = Case(
        {"type": "BPE", **laws.BPE_OPTIONS, "vocab": {token: n for n, token in enumerate("0123456789.")}, "merges": []},
        template="{digit:2}.",
    )
    assert laws.judged(case).leaves == 100
    edges, most_below = laws.TokenTree.edges, laws.TokenTree.most_below

    def fewer(tree, state):
        all_edges = edges(tree, state)
        some = slice(int(hasattr(tree, "root") and state == tree.root), None)
        return type(all_edges)(all_edges.tokens[some], all_edges.states[some], all_edges.is_leaf[some])

    with monkeypatch.context() as broken:
        broken.setattr(laws.TokenTree, "edges", fewer)
        assert laws.judged(case).kind == "leaves are lost"
    with monkeypatch.context() as broken:
        broken.setattr(laws.TokenTree, "most_below", lambda tree, state: most_below(tree, state) - 1)
        assert laws.judged(case).kind == "most_below bounds the fills"
