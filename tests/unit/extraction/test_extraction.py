"""Extraction: fills with texts and costs that other routes confirm."""

import signal

import numpy as np
import pytest
import torch

from hf_canary import CanaryFormat, CanarySet, extract, log_perplexity, measure_exposure
from hf_canary.errors import ArgumentError, CanaryError, DataError, FormatError, ModelError
from hf_canary.extraction import exact_rank, iter_extract, likeliest
from hf_canary.tokenization import encoding
from hf_canary.tokenization.contexts import Context, SourceContext
from hf_canary.walks.search.goals import Cheapest
from tests.support import oracles
from tests.support.errors import check_error
from tests.support.tokenizers_of_all_kinds import KINDS


def test_all_of_a_space_can_be_asked_for(lstm, tokenizer, pin):
    """top_k = |R| ranks everything, and nothing is left to cost anything."""
    found = extract(lstm, tokenizer, pin, top_k=1000)
    assert sorted(candidate.fill for candidate in found.candidates) == list(range(1000))
    assert found.certified
    assert found.lower_bound == float("inf")


def test_a_planted_canary_is_found_among_a_billion(tokenizer):
    """A model that was taught one fill gives it away, proven, after few expansions."""
    format = CanaryFormat("the pin is {digit:9}")
    model = oracles.small_model("lstm", len(tokenizer))
    planted = format.render(123454321)
    ids = torch.tensor([tokenizer(planted).input_ids])
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(60):
        optimizer.zero_grad()
        model(input_ids=ids, labels=ids).loss.backward()
        optimizer.step()
    found = extract(model, tokenizer, format)
    assert found.candidates[0].text == planted
    assert found.certified
    assert found.expanded < 1000


def test_without_bos_a_recurrent_model_searches_from_its_initial_state(lstm, tokenizer):
    """A hole first, nothing before it: the candidates of brute force, at log_perplexity's costs."""
    from tests.support.tokenizers_of_all_kinds import without_bos

    bare, format = without_bos(tokenizer), CanaryFormat("{digit:3}")
    found = extract(lstm, bare, format, top_k=5)
    texts = list(format.candidates())
    costs = log_perplexity(lstm, bare, texts)
    assert [candidate.fill for candidate in found.candidates] == sorted(range(1000), key=costs.__getitem__)[:5]
    assert found.candidates[0].log_perplexity == pytest.approx(costs.min(), abs=1e-3)


def test_the_proof_in_words_claims_no_more_than_holds(tokenizer):
    """Ties are not excluded, so it says likelier; stopped, it gives the bound; alone or several, it says so."""
    even = oracles.TableModel(len(tokenizer), spread=0.0)
    one, three = (extract(even, tokenizer, CanaryFormat("pin {digit:2}"), top_k=k) for k in (1, 3))
    assert one.lower_bound == pytest.approx(one.candidates[0].log_perplexity)
    assert one.proof == "proven: no other candidate is likelier"
    assert three.proof == "proven: no other candidate is likelier than these"
    stopped = extract(even, tokenizer, CanaryFormat("pin {digit:2}"), max_expanded=1)
    assert stopped.proof.startswith("not proven")
    assert f"{stopped.lower_bound:.2f} bits" in stopped.proof


@pytest.mark.parametrize("top_k", [0, 1001, -1, True, 2.0])
def test_bad_top_k(lstm, tokenizer, pin, top_k):
    """One to |R|."""
    with pytest.raises(ArgumentError, match="top_k"):
        extract(lstm, tokenizer, pin, top_k=top_k)


def test_a_hole_first_needs_something_before_it(tokenizer):
    """A transformer without BOS and context cannot say what comes first."""
    from tests.support.tokenizers_of_all_kinds import without_bos

    model = oracles.small_model("gpt2", len(tokenizer))
    with pytest.raises(ModelError, match="context"):
        extract(model, without_bos(tokenizer), CanaryFormat("{digit:2}"))


@pytest.mark.parametrize("kind", ["characters", "gpt2", "unigram"])
def test_with_an_end_token_candidates_may_be_prefixes_of_others(kind):
    """`cat` and `cats` are told apart by their ends, in extraction and in exposure."""
    tokenizer = KINDS[kind]()
    model = oracles.small_model("lstm", len(tokenizer))
    format = CanaryFormat("the {w}", spaces={"w": ["cat", "cats", "catsing", "a", "an", "ant"]})
    texts = list(format.candidates())
    costs = log_perplexity(model, tokenizer, texts, end=True)
    found = extract(model, tokenizer, format, end=True, top_k=6)
    assert [candidate.text for candidate in found.candidates] == [texts[number] for number in np.argsort(costs)]
    np.testing.assert_allclose([c.log_perplexity for c in found.candidates], np.sort(costs), atol=1e-3)
    canaries = CanarySet.draw(format, repetitions=(1,), per_repetition=2, seed=0)
    for exposure, canary in zip(
        measure_exposure(model, tokenizer, canaries, estimators=["sampled"], end=True), canaries, strict=True
    ):
        rank = (costs <= costs[canary.fill] + 1e-9).sum()
        assert exposure.value == pytest.approx(np.log2(6 / rank), abs=1e-6)
    with pytest.raises(FormatError, match="prefixes"):
        extract(model, tokenizer, format)


@pytest.mark.parametrize("kind", ["gru", "lstm"])
def test_an_encoder_decoder_with_one_source(kind, tokenizer, pin):
    """The likeliest of all fills after one source, and the rank of each, by scoring every one of them."""
    model = oracles.small_translation(kind, True, len(tokenizer))
    texts = list(pin.candidates())
    costs = log_perplexity(model, tokenizer, texts, sources=["abc de"] * len(texts))
    found = extract(model, tokenizer, pin, source="abc de", top_k=5)
    assert found.certified
    assert [candidate.fill for candidate in found.candidates] == np.argsort(costs)[:5].tolist()
    assert [candidate.log_perplexity for candidate in found.candidates] == pytest.approx(np.sort(costs)[:5], abs=1e-3)
    (rank,) = exact_rank(model, tokenizer, pin, [417], source="abc de")
    assert abs(rank.rank - (costs <= costs[417]).sum()) <= rank.ties
    own = CanaryFormat(pin.template, source="abc de")
    assert extract(model, tokenizer, own, top_k=5) == found


def test_a_source_that_holds_the_fill_is_refused(tokenizer, lstm):
    """The tree is that of one source; the error says what scores pairs."""
    model = oracles.small_translation("gru", True, len(tokenizer))
    with pytest.raises(FormatError, match="measure_exposure"):
        extract(model, tokenizer, CanaryFormat("the pin is {digit:3}", source="a {digit:3}"))
    with pytest.raises(ModelError, match="translates"):
        extract(model, tokenizer, CanaryFormat("the pin is {digit:3}"))


def test_a_source_is_the_prompt_of_a_causal_model(lstm, tokenizer, pin):
    """That of the format, one that is given, or one within a context: the same as the text that stands there then."""
    own = CanaryFormat(pin.template, source="what is it? ")
    asking = CanaryFormat("the pin is {digit:2} {digit}", source="pin {digit:2}? ")
    amid = SourceContext("a ", ", ")
    ways = (
        (own, {}, "what is it? "),
        (own, {"source_prefix": "a: "}, "a: what is it? "),
        (own, {"context": "the cat. "}, "the cat. "),
        (own, {"context": ""}, ""),
        (own, {"context": amid}, "a what is it? , "),
        (pin, {"source": "abc "}, "abc "),
        (asking, {"source": "pin 12? "}, "pin 12? "),
        (asking, {"source": "pin 12? ", "context": amid}, "a pin 12? , "),
    )
    for format, given, text in ways:
        expected = extract(lstm, tokenizer, CanaryFormat(format.template), context=text, top_k=3)
        found = extract(lstm, tokenizer, format, **given, top_k=3)
        assert found.certified
        assert [each.text for each in found.candidates] == [each.text for each in expected.candidates]
        wanted = [each.log_perplexity for each in expected.candidates]
        assert [each.log_perplexity for each in found.candidates] == pytest.approx(wanted, abs=1e-5)
        fill = expected.candidates[2].fill
        assert exact_rank(lstm, tokenizer, format, [fill], **given)[0].rank == 3
    refused = (
        (asking, {}, FormatError, "format"),
        (asking, {"context": amid}, FormatError, "format"),
        (pin, {"context": amid}, ArgumentError, "source"),
        (pin, {"source": "abc", "context": "abc"}, ArgumentError, "source"),
        (own, {"source_prefix": Context((1, 2))}, ArgumentError, "source_prefix"),
        (own, {"source_prefix": amid}, ArgumentError, "source_prefix"),
    )
    for format, given, error, argument in refused:
        with pytest.raises(error) as caught:
            extract(lstm, tokenizer, format, **given)
        check_error(caught.value, error, argument)


def test_candidates_that_there_is_no_room_for_are_refused_beforehand(lstm, tokenizer, pin, monkeypatch):
    """What is found is held in memory, too; nothing is read before that is said."""
    most = 2**20 // (4 * likeliest._CANDIDATE_BYTES)
    for strategy in ("auto", "best-first", "depth-first"):
        found = extract(lstm, tokenizer, pin, max_memory=2**20, top_k=most, strategy=strategy)
        assert (len(found.candidates), found.certified) == (most, True)
    called, forward = [], lstm.forward
    monkeypatch.setattr(lstm, "forward", lambda *args, **options: called.append(1) or forward(*args, **options))
    with pytest.raises(ArgumentError, match="lower top_k") as caught:
        extract(lstm, tokenizer, pin, max_memory=2**20, top_k=most + 1)
    check_error(caught.value, ArgumentError, "max_memory")
    assert not called


def test_what_is_found_counts_as_memory():
    """By what is made of each leaf, beside its tokens."""
    costs, paths = np.arange(50.0), np.arange(200).reshape(50, 4)
    bare, listed = Cheapest(40, 4), Cheapest(40, 4, leaf_bytes=1000)
    for goal in (bare, listed):
        goal.offer(costs, paths)
    assert listed.num_bytes - bare.num_bytes == 40_000


def test_many_texts_are_encoded_some_at_a_time(tokenizer):
    """A tokenizer holds some kilobytes of each at once."""
    sizes = []

    class Counting:
        def __call__(self, text, **options):
            sizes.append(len(text))
            return tokenizer(text, **options)

    class Backend:
        def encode_batch_fast(self, texts, **options):
            sizes.append(len(texts))
            return tokenizer.backend_tokenizer.encode_batch_fast(texts, **options)

    texts = list(CanaryFormat("pin {digit:4}").candidates())
    expected = tokenizer(texts, add_special_tokens=False)["input_ids"]
    for given in (
        lambda: encoding._by_transformers(Counting(), texts, target=False, special=False),
        lambda: encoding._by_backend(Backend(), texts, special=False),
    ):
        sizes.clear()
        assert given() == expected
        assert max(sizes) <= 4096
        assert sum(sizes) == len(texts)


def test_one_after_another(model, tokenizer):
    """Asked for lazily, all of R comes in the order of brute force, and the model is left as it was in between."""
    format = CanaryFormat("pin {digit}{lower}")
    texts = list(format.candidates())
    costs = log_perplexity(model, tokenizer, texts)
    model.train()
    found = []
    for candidate in iter_extract(model, tokenizer, format, batch_size=7):
        assert model.training
        found.append(candidate)
    model.eval()
    assert len({candidate.fill for candidate in found}) == 260
    bits = [candidate.log_perplexity for candidate in found]
    assert bits == sorted(bits)
    assert bits == pytest.approx(costs[[candidate.fill for candidate in found]], abs=1e-3)
    capped = list(iter_extract(model, tokenizer, format, max_expanded=2, batch_size=1))
    assert [candidate.fill for candidate in capped] == [candidate.fill for candidate in found[: len(capped)]]
    assert len(capped) < 60


def test_no_fills_have_no_ranks(lstm, tokenizer, pin):
    """Nothing is asked for, and nothing is done."""
    assert exact_rank(lstm, tokenizer, pin, []) == []


def test_a_cap_keeps_none_back_that_is_proven(lstm, tokenizer, pin):
    """What was found when a cap ended it is yielded, as far as nothing open can come before."""
    everything = [candidate.fill for candidate in extract(lstm, tokenizer, pin, top_k=1000).candidates]
    for cap in (5, 40, 110):
        capped = [candidate.fill for candidate in iter_extract(lstm, tokenizer, pin, max_expanded=cap)]
        assert capped == everything[: len(capped)]
        sure = extract(lstm, tokenizer, pin, top_k=1000, strategy="best-first", max_expanded=cap)
        assert len(capped) == sum(each.log_perplexity < sure.lower_bound for each in sure.candidates)


def test_the_work_of_a_count_is_foreseen(tokenizer):
    """What is said beforehand is within a factor of 1.3 of what it takes."""
    model = oracles.small_model("lstm", len(tokenizer), seed=4)
    format = CanaryFormat("the pin is {digit:5}")
    said = []
    for fill in (11, 54321, 99999):
        (rank,) = exact_rank(model, tokenizer, format, [fill], progress=said.append)
        assert said[-1].expanded == rank.expanded
        assert 1 / 1.3 < said[-1].expected / rank.expanded < 1.3


def test_a_checkpoint_of_something_else_is_refused(lstm, tokenizer, pin, tmp_path):
    """Another model, format or request; a torn file, a changed one, one of something else."""
    kept = tmp_path / "kept"
    extract(lstm, tokenizer, pin, checkpoint=kept)
    other = oracles.small_model("lstm", len(tokenizer), seed=9)
    for words, arguments, options in (
        ("another model", (other, tokenizer, pin), {}),
        ("another format", (lstm, tokenizer, CanaryFormat("the pin is {digit:4}")), {}),
        ("another request", (lstm, tokenizer, pin), {"top_k": 2}),
        ("another source or context", (lstm, tokenizer, pin), {"context": "so "}),
    ):
        with pytest.raises(DataError, match=words):
            extract(*arguments, checkpoint=kept, **options)
    content = kept.read_bytes()
    for changed, words in (
        (content[:-3], "torn"),
        (content[:-1] + bytes([content[-1] ^ 1]), "changed"),
        (content.replace(b'"version":"4"', b'"version":"0"'), "version"),
        (b"something", "torn"),
    ):
        kept.write_bytes(changed)
        with pytest.raises(DataError, match=words):
            extract(lstm, tokenizer, pin, checkpoint=kept)


def test_an_interrupt_leaves_what_is_proven(tokenizer):
    """Ctrl-C ends the search between two batches; the handler is put back."""
    model = oracles.TableModel(len(tokenizer), spread=0.1)
    before = signal.getsignal(signal.SIGINT)
    found = extract(
        model, tokenizer, CanaryFormat("pin {digit:9}"), progress=lambda now: signal.raise_signal(signal.SIGINT)
    )
    assert found.stopped == "interrupted"
    assert "interrupted" in found.proof
    assert not found.certified
    assert signal.getsignal(signal.SIGINT) is before


def test_bad_strategy(lstm, tokenizer, pin):
    """The error lists them."""
    with pytest.raises(ArgumentError, match="depth-first"):
        extract(lstm, tokenizer, pin, strategy="fast")


@pytest.mark.parametrize(
    ("options", "argument"),
    [
        ({"max_expanded": 0}, "max_expanded"),
        ({"max_expanded": -3}, "max_expanded"),
        ({"max_expanded": 1.5}, "max_expanded"),
        ({"max_expanded": True}, "max_expanded"),
        ({"max_seconds": -1.0}, "max_seconds"),
        ({"max_seconds": float("nan")}, "max_seconds"),
        ({"max_seconds": "1"}, "max_seconds"),
        ({"max_memory": 0}, "max_memory"),
        ({"batch_size": 0}, "batch_size"),
    ],
)
def test_bad_caps_are_refused_before_any_work(lstm, tokenizer, pin, options, argument):
    """Each by its name, by all three doors."""
    for door in (extract, iter_extract, lambda *where, **caps: exact_rank(*where, [1], **caps)):
        with pytest.raises(CanaryError) as caught:
            door(lstm, tokenizer, pin, **options)
        assert caught.value.argument == argument


def test_what_is_no_model_no_format_and_no_list_is_said(lstm, tokenizer, pin):
    """The commonest slips, by all three doors."""
    for door in (extract, iter_extract, lambda *where: exact_rank(*where, [1])):
        with pytest.raises(ArgumentError, match="from_pretrained"):
            door("a/model", tokenizer, pin)
        with pytest.raises(ArgumentError, match=r"CanaryFormat\("):
            door(lstm, tokenizer, pin.template)
    with pytest.raises(ArgumentError, match="into a list"):
        exact_rank(lstm, tokenizer, pin, 5)


def test_a_checkpoint_that_cannot_be_written_is_refused_before_any_work(lstm, tokenizer, pin, tmp_path):
    """A folder, a place below a file, a name that is too long; the error says which."""
    (tmp_path / "file").write_text("")
    for kept, wrong in (
        (tmp_path, "is a folder"),
        (tmp_path / "file" / "kept", "is no folder"),
        (tmp_path / "x" / "kept", "is no folder"),
        (tmp_path / ("x" * 300), "too long"),
    ):
        with pytest.raises(DataError, match=wrong):
            extract(lstm, tokenizer, pin, checkpoint=kept)
        with pytest.raises(DataError, match=wrong):
            exact_rank(lstm, tokenizer, pin, [1], checkpoint=kept)


def test_a_dear_fill_takes_no_other_its_rank(lstm, tokenizer, tmp_path):
    """Under any cap the likelier fills have theirs, the dear ones have as good bounds as alone; and from there it goes
    on to the whole.
    """
    format, kept = CanaryFormat("the pin is {digit:4}"), tmp_path / "kept"
    fills = [9999, extract(lstm, tokenizer, format).candidates[0].fill, 5000]
    whole = exact_rank(lstm, tokenizer, format, fills)
    cheap, dear = (pick(rank.expected for rank in whole) for pick in (min, max))
    cap = int(1.3 * cheap + 60)
    assert cheap < cap < dear / 2
    capped = exact_rank(lstm, tokenizer, format, fills, max_expanded=cap, checkpoint=kept)
    assert capped[1].rank == 1
    assert [rank.expanded for rank in capped] == [cap] * 3
    for fill, rank, truth in zip(fills, capped, whole, strict=True):
        assert rank.expected == truth.expected
        assert rank.low <= truth.rank <= rank.high
        (alone,) = exact_rank(lstm, tokenizer, format, [fill], max_expanded=cap)
        assert rank.low >= 0.9 * alone.low
        assert rank.high <= 1.2 * alone.high
    assert any(rank.rank is None for rank in capped)
    assert exact_rank(lstm, tokenizer, format, fills, max_expanded=cap, checkpoint=kept) == capped
    assert exact_rank(lstm, tokenizer, format, fills, checkpoint=kept) == whole


def test_the_rate_is_that_of_this_run(lstm, tokenizer, pin, tmp_path):
    """Not that of the work in a file by the time since it was opened."""
    seen, kept = [], tmp_path / "kept"
    first = exact_rank(lstm, tokenizer, pin, [7], max_expanded=60, checkpoint=kept)[0].expanded
    exact_rank(lstm, tokenizer, pin, [7], checkpoint=kept, progress=seen.append)
    assert seen[0].before == first
    assert seen[0].rate == 0.0
    assert seen[-1].rate == (seen[-1].expanded - first) / seen[-1].seconds


def test_numbers_of_numpy_ask_for_the_same(lstm, tokenizer, pin, tmp_path):
    """A checkpoint is of fills, not of how they are written."""
    first = exact_rank(lstm, tokenizer, pin, [1, 2], checkpoint=tmp_path / "kept")
    assert exact_rank(lstm, tokenizer, pin, np.array([1, 2]), checkpoint=tmp_path / "kept") == first


def test_a_count_without_time_has_bounds(lstm, tokenizer, pin):
    """They hold, and the work says that nothing was counted to its end."""
    (rank,) = exact_rank(lstm, tokenizer, pin, [7], max_seconds=1e-9)
    (truth,) = exact_rank(lstm, tokenizer, pin, [7])
    assert rank.rank is None
    assert rank.low <= truth.rank <= rank.high <= 1000
    assert rank.expanded < truth.expanded
    assert rank.stopped == "max_seconds"
    assert truth.stopped == ""


def test_no_candidate_is_possible(tokenizer):
    """It is said, and not that these are the likeliest."""
    model = oracles.small_model("lstm", len(tokenizer))
    with torch.no_grad():
        for digit in "0123456789":
            model.lm_head.bias[tokenizer.convert_tokens_to_ids(digit)] = float("-inf")
    assert "no candidate is possible" in extract(model, tokenizer, CanaryFormat("pin {digit:2}")).proof


def test_candidates_that_are_encoded_alike_are_listed_as_one():
    """And a program that reads the result is told so: of An and an, which this tokenizer lowers."""
    tokenizer = KINDS["wordpiece"]()
    model = oracles.small_model("lstm", len(tokenizer), seed=1).eval()
    for words, alike in ((["An", "an", "the"], True), (["an", "the"], False)):
        found = extract(model, tokenizer, CanaryFormat("{w} pin", spaces={"w": words}), top_k=2)
        assert found.certified
        assert len(found.candidates) == 2
        assert found.collisions == alike
        assert ("encoded alike" in found.proof) == alike
