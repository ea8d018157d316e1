"""The score walk: Definition 1 for every listed sequence, each shared prefix once."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hf_canary import log_perplexity
from hf_canary.errors import ModelError
from hf_canary.formats import CanaryFormat
from hf_canary.inference import language_model
from hf_canary.inference.evaluation import evaluating
from hf_canary.inference.language_model import LanguageModel
from hf_canary.tokenization.encoding import encode
from hf_canary.walks import tree_attention as packed
from hf_canary.walks.pairs import score_rows
from hf_canary.walks.score import score
from tests.support import oracles
from tests.support.repetitions import times
from tests.support.short_of_memory import ShortOfMemory

TABLE = oracles.TableModel(8)


@settings(deadline=None, max_examples=times(80))
@given(st.lists(st.lists(st.integers(0, 7), min_size=0, max_size=6), min_size=1, max_size=12), st.integers(1, 7))
def test_any_sequences_equal_teacher_forcing(tails, batch_size):
    """Duplicates, sequences that begin with one another, any order, any batch size: the sum over each one's tokens."""
    sequences = [[3, 1, *tail] for tail in tails]
    with evaluating(TABLE):
        found = score(LanguageModel(TABLE, batch_size=batch_size).session, sequences, 1)
    expected = [oracles.teacher_forced_bits(TABLE, sequence, 1) for sequence in sequences]
    np.testing.assert_allclose(found, expected, atol=1e-4)


@pytest.mark.parametrize("digits", [1, 2, 3, 4])
def test_each_prefix_is_fed_once(lstm, tokenizer, digits):
    """All fills of n digits cost the prompt and one row for each inner node below it: 10 + ... + 10^(n-1)."""
    format = CanaryFormat(f"the pin is {{digit:{digits}}}")
    encoding = encode(tokenizer, list(format.candidates()))
    with evaluating(lstm):
        view = LanguageModel(lstm)
        score(view.session, encoding.sequences, encoding.conditioned)
    prompt = 1 + len("the pin is ")
    assert view.token_rows == prompt + sum(10**depth for depth in range(1, digits))


def test_a_tail_without_a_branch_is_fed_once_and_its_last_token_never(lstm):
    """Two sequences that part at once: the prompt, then each tail but its last token."""
    with evaluating(lstm):
        view = LanguageModel(lstm)
        score(view.session, [[2, 5, 6, 7, 8], [2, 9, 6, 7, 8]], 1)
    assert view.token_rows == 1 + 2 * 3


def test_progress_counts_every_distinct_sequence():
    """What is reported adds up to what was asked."""
    counts = []
    with evaluating(TABLE):
        score(
            LanguageModel(TABLE, batch_size=2).session,
            [[1, a, b] for a in range(4) for b in range(5)],
            1,
            progress=counts.append,
        )
    assert sum(counts) == 20
    assert len(counts) > 1


@pytest.mark.parametrize("name", ["gpt2", "llama"])
@pytest.mark.parametrize("batch_size", [None, 1, 3])
@pytest.mark.parametrize("packs", [True, False])
def test_packed_rows_and_forks_are_two_routes_to_one_number(tokenizer, monkeypatch, name, batch_size, packs):
    """Duplicates, sequences that go on from others, hundreds that fill several rows: both equal teacher forcing."""
    model = oracles.small_model(name, len(tokenizer))
    rng = np.random.default_rng(0)
    sequences = [[2, 5, *rng.integers(3, 6, size=rng.integers(0, 8)).tolist()] for _ in range(300)]
    monkeypatch.setattr(language_model.Session, "packs", property(lambda session: packs))
    with evaluating(model):
        found = score(LanguageModel(model, batch_size=batch_size).session, sequences, 1)
    some = range(0, 300, 10)
    expected = [oracles.teacher_forced_bits(model, sequences[i], 1) for i in some]
    np.testing.assert_allclose(found[list(some)], expected, atol=1e-3)
    by_sequence = {}
    for sequence, cost in zip(sequences, found, strict=True):
        assert by_sequence.setdefault(tuple(sequence), cost) == cost


@pytest.mark.parametrize("name", ["gpt2", "llama"])
def test_transformers_pack_and_others_do_not(tokenizer, name):
    """Otherwise the tests above would compare one route with itself."""
    model = oracles.small_model(name, len(tokenizer))
    with evaluating(model):
        assert LanguageModel(model).session([2, 5], 3).packs
    for other in ("lstm", "jamba", "table"):
        model = oracles.small_model(other, len(tokenizer))
        with evaluating(model):
            assert not LanguageModel(model).session([2, 5], 3).packs


@pytest.mark.parametrize(
    ("name", "packs", "most"), [("lstm", False, 11_110), ("gpt2", False, 11_110), ("gpt2", True, 12_000)]
)
def test_a_hundred_thousand_fills_cost_eleven_thousand_token_rows(tokenizer, monkeypatch, name, packs, most):
    """10 + ... + 10^4 for five digits, and the prompt; where rows are packed, the first tokens of each once more."""
    model, format = oracles.small_model(name, len(tokenizer)), CanaryFormat("the pin is {digit:5}")
    monkeypatch.setattr(language_model.Session, "packs", property(lambda session: packs))
    with evaluating(model):
        view = LanguageModel(model)
        costs = oracles.costs_of_digits(view, tokenizer, format)
    assert len(costs) == 10**5
    assert view.token_rows <= most + len(tokenizer("the pin is ").input_ids)


@pytest.mark.parametrize(
    ("name", "packs", "limit"),
    [("lstm", False, 30), ("gpt2", True, 70), ("gpt2", False, 30), ("llama", True, 70), ("jamba", False, 30)],
)
def test_memory_that_runs_out_halves_the_batch_and_loses_nothing(tokenizer, monkeypatch, name, packs, limit):
    """Whatever the walk is doing; and where not even one row fits, the error comes through."""
    model = oracles.small_model(name, len(tokenizer))
    texts = [CanaryFormat("the pin is {digit:3}").render(fill) for fill in range(0, 1000, 3)]
    expected = log_perplexity(model, tokenizer, texts)
    monkeypatch.setattr(language_model.Session, "packs", property(lambda session: packs))
    short = ShortOfMemory(model, limit)
    monkeypatch.setattr(model, "forward", short)
    np.testing.assert_allclose(log_perplexity(model, tokenizer, texts), expected, atol=1e-4)
    assert short.refused
    short.limit, short.called = 0, 0
    with pytest.raises(torch.OutOfMemoryError):
        log_perplexity(model, tokenizer, texts)


def test_pairs_are_halved_too(monkeypatch):
    """Sources of their own, each with its target, in fewer rows."""
    tokenizer = oracles.models.character_tokenizer(["the pin is 0123456789"], end_token=True)
    model = oracles.small_translation("gru", True, len(tokenizer)).eval()
    texts = [CanaryFormat("pin {digit:2}").render(fill) for fill in range(40)]
    sources = [CanaryFormat("the {digit:2}").render(fill) for fill in range(40)]
    expected = log_perplexity(model, tokenizer, texts, sources=sources)
    short = ShortOfMemory(model, 20)
    short.called = 1
    monkeypatch.setattr(model, "forward", short)
    np.testing.assert_allclose(log_perplexity(model, tokenizer, texts, sources=sources), expected, atol=1e-4)
    assert short.refused > 1
    short.limit = 0
    with pytest.raises(torch.OutOfMemoryError):
        log_perplexity(model, tokenizer, texts, sources=sources)


@pytest.mark.parametrize(("name", "first"), [("lstm", 2), ("gpt2", 2), ("gpt2", None), ("jamba", None)])
def test_rows_with_starts_of_their_own_are_halved_too(tokenizer, monkeypatch, name, first):
    """Behind what all share, or behind nothing, in fewer rows; all tokens but the starts are summed."""
    model = oracles.small_model(name, len(tokenizer))
    rng = np.random.default_rng(0)
    starts = rng.integers(2, 6, size=30).tolist()
    rows = [
        [first or 3 + number % 2, *rng.integers(3, 50, size=start + number % 4).tolist()]
        for number, start in enumerate(starts)
    ]
    expected = [oracles.teacher_forced_bits(model, row, start) for row, start in zip(rows, starts, strict=True)]
    done = []
    with evaluating(model):
        found = score_rows(LanguageModel(model), rows, starts, progress=done.append)
        np.testing.assert_allclose(found, expected, atol=1e-3)
        assert sum(done) == 30
        short = ShortOfMemory(model, 40)
        short.called = 1
        monkeypatch.setattr(model, "forward", short)
        np.testing.assert_allclose(score_rows(LanguageModel(model), rows, starts), expected, atol=1e-3)
        assert short.refused


def test_packed_rows_hold_what_fits(tokenizer):
    """Each row reads at most so many tokens, however its paths share them; together they are all paths."""
    rng = np.random.default_rng(0)
    tokens = np.unique(rng.integers(0, 4, size=(500, 7)), axis=0)
    paths = packed.Paths.of(tokens)
    starts = packed._starts(paths, paths.fed)
    assert starts[0] == 0
    assert starts[-1] == len(tokens)
    for begin, end in itertools.pairwise(starts.tolist()):
        prefixes = {tuple(row[:length]) for row in tokens[begin:end].tolist() for length in range(1, 7)}
        assert len(prefixes) <= packed.ROW


def test_what_packed_rows_read_is_counted_without_padding(tokenizer):
    """Two rows of three tokens, of which one is padding."""
    model = oracles.small_model("gpt2", len(tokenizer))
    with evaluating(model):
        view = LanguageModel(model)
        session = view.session([2, 5], 3)
        tokens, depths = np.array([[4, 5, 6], [4, 7, 0]]), np.array([[0, 1, 1], [0, 1, -1]])
        own = np.eye(3, dtype=bool)
        own[1:, 0] = True
        row, column, pick = np.array([0, 1]), np.array([2, 1]), np.array([9, 9])
        bits = session.read_packed(tokens, depths, np.stack([own, own]), row, column, pick)
    assert view.token_rows == 2 + 5
    expected = [oracles.teacher_forced_bits(model, [2, 5, 4, last, 9], 4) for last in (6, 7)]
    np.testing.assert_allclose(bits, expected, atol=1e-4)


@pytest.mark.parametrize("name", ["lstm", "gpt2"])
def test_a_sequence_that_another_goes_on_from(tokenizer, name):
    """1, 1 2, 1 3 4 and 5 behind a prompt: some end where others go on."""
    model = oracles.small_model(name, len(tokenizer))
    sequences = [[2, 6, *path] for path in ((1, 3, 4), (1,), (5,), (1, 2))]
    with evaluating(model):
        found = score(LanguageModel(model).session, sequences, 2)
    expected = [oracles.teacher_forced_bits(model, sequence, 2) for sequence in sequences]
    np.testing.assert_allclose(found, expected, atol=1e-4)


@pytest.mark.parametrize("name", ["lstm", "gpt2", "jamba", "table"])
def test_an_error_names_the_text(tokenizer, monkeypatch, name):
    """The one among many whose logits are no numbers."""
    model = oracles.small_model(name, len(tokenizer))
    texts = [CanaryFormat("the pin is {digit:2}").render(fill) for fill in range(0, 100, 3)]
    bad = torch.tensor(tokenizer("the pin is 4").input_ids)
    forward = model.forward

    def broken(input_ids, **options):
        output = forward(input_ids=input_ids, **options)
        output.logits[input_ids == bad[-1]] = torch.nan
        return output

    monkeypatch.setattr(model, "forward", broken)
    with pytest.raises(ModelError, match=r"texts\[14\]"):
        log_perplexity(model, tokenizer, texts)
