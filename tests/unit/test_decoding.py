"""What `generate` may write under a format, and at which scores: other routes say the same."""

import logging
import math

import numpy as np
import pytest
import torch

import hf_canary.models as models
from hf_canary import CanaryFormat, FormatLogitsProcessor, extract, log_perplexity
from hf_canary.decoding import CheapestFills
from hf_canary.errors import ArgumentError, FormatError, ModelError
from tests.support import oracles
from tests.support.generating import beams
from tests.support.tokenizers_of_all_kinds import KINDS

LN2 = math.log(2.0)
FORMAT = CanaryFormat(" the pin is {digit:2} {w}.", spaces={"w": ["a", "an", "ant", "cats"]})


def texts_of(tokenizer, sequences, skipped=0):
    return [tokenizer.decode(ids[skipped:], skip_special_tokens=True) for ids in sequences.tolist()]


def small_model(kind, vocabulary, seed=0):
    """In evaluation: `generate` leaves dropout on."""
    return oracles.small_model(kind, vocabulary, seed=seed).eval()


@pytest.mark.parametrize("kind", ["lstm", "gpt2"])
def test_scores_of_beams_are_log_perplexities(pair, kind):
    """With as many beams as there are candidates, all of them come, and each score is −ln 2 times the bits of what
    follows the prompt.
    """
    tokenizer, model = pair[0], pair[1][kind]
    format = CanaryFormat(" the pin is {digit}{w}.", spaces={"w": ["a", "an", "ant"]})
    processor = FormatLogitsProcessor(format, tokenizer, context="so")
    conditioned = processor.prompt_lengths[0]
    prompt = torch.tensor([processor.prompt_ids[:conditioned]])
    found = beams(model, processor, prompt, 30, pad_token_id=0)
    texts = list(format.candidates())
    costs = log_perplexity(model, tokenizer, texts, context="so")
    ours = [tokenizer.decode(ids) for ids in encodings(tokenizer, texts, "so")]
    got = [tokenizer.decode(until(ids, tokenizer.eos_token_id)) for ids in found.sequences[:, conditioned:].tolist()]
    order = np.argsort(costs)
    assert [ours.index(text) for text in got] == order.tolist()
    np.testing.assert_allclose(found.sequences_scores.numpy() / -LN2, costs[order], atol=2e-3)


def encodings(tokenizer, texts, context):
    """The tokens of each text behind the context, by the tokenizer alone."""
    before = len(tokenizer(context, add_special_tokens=False)["input_ids"])
    return [tokenizer(context + text, add_special_tokens=False)["input_ids"][before:] for text in texts]


def until(ids, end):
    return ids[: ids.index(end)] if end in ids else ids


@pytest.mark.parametrize("kind", ["lstm", "gpt2"])
def test_from_all_that_candidates_share_the_scores_are_of_the_rest(pair, kind):
    """`prompt_ids` is a prompt; what it says of the canary is not in the scores. Greedy search writes a candidate."""
    tokenizer, model = pair[0], pair[1][kind]
    processor = FormatLogitsProcessor(FORMAT, tokenizer, context="so")
    encoded = encodings(tokenizer, list(FORMAT.candidates()), "so")
    prompt = torch.tensor([processor.prompt_ids])
    (greedy,) = model.generate(prompt, logits_processor=[processor], max_new_tokens=40, do_sample=False, pad_token_id=0)
    behind = until(greedy[len(processor.prompt_ids) :].tolist(), tokenizer.eos_token_id)
    shared = processor.prompt_ids[processor.prompt_lengths[0] :]
    assert [*shared, *behind] in encoded
    found = beams(model, processor, prompt, 8, pad_token_id=0)
    best = extract(model, tokenizer, FORMAT, context="so", top_k=400)
    after = {tuple(ids): number for number, ids in enumerate(encoded)}
    bits = {candidate.fill: candidate.log_perplexity for candidate in best.candidates}
    ids = [until(row[len(processor.prompt_ids) :], tokenizer.eos_token_id) for row in found.sequences.tolist()]
    full = np.array([bits[after[(*shared, *row)]] for row in ids])
    np.testing.assert_allclose(np.diff(found.sequences_scores.numpy() / -LN2), np.diff(full), atol=2e-3)


def test_it_forbids_exactly_what_the_format_forbids(pair):
    """Along every candidate, step by step: what is left are the next tokens of candidates that begin so, at their own
    log-probabilities; behind the candidate the end token alone, at 0. What it is given stays as it was.
    """
    tokenizer = pair[0]
    processor = FormatLogitsProcessor(FORMAT, tokenizer, 3, context="so")
    encoded = sorted({tuple(ids) for ids in encodings(tokenizer, list(FORMAT.candidates()), "so")})
    generator = torch.Generator().manual_seed(0)
    for path in encoded[:: max(1, len(encoded) // 40)]:
        for length in range(len(path) + 2):
            begun = (*path, tokenizer.eos_token_id)[:length]
            scores = torch.randn(2, len(tokenizer), generator=generator)
            given_ids = torch.tensor([[7, 8, 9, *begun]] * 2)
            given_scores, ids = scores.clone(), given_ids.clone()
            masked = processor(ids, scores)
            assert torch.equal(scores, given_scores)
            assert torch.equal(ids, given_ids)
            left = torch.isfinite(masked)
            if length >= len(path):
                assert left.nonzero()[:, 1].tolist() == [tokenizer.eos_token_id] * 2
                assert masked[left].tolist() == [0.0, 0.0]
            else:
                following = sorted({other[length] for other in encoded if other[:length] == begun})
                assert left[0].nonzero()[:, 0].tolist() == following
                assert torch.equal(masked[left], scores[left])


@pytest.mark.parametrize("per_row", [False, True])
@pytest.mark.parametrize("count", [1, 4])
def test_a_batch_of_prompts_is_one_prompt_after_another(tokenizer, per_row, count):
    """Padded on the left, with beams: each row says what it says alone; also where rows hold more or less of the
    canary, if it is said where it begins.
    """
    model, format = small_model("llama", len(tokenizer), seed=3), CanaryFormat("pin {digit:3}")
    processor = FormatLogitsProcessor(format, tokenizer)
    contexts = ["abc ", "so it is: ", "x"]
    begun = ["pi", "", "pin "] if per_row else ["pi"] * 3
    rows = [
        tokenizer(context + text, add_special_tokens=False)["input_ids"]
        for context, text in zip(contexts, begun, strict=True)
    ]
    width = max(map(len, rows))
    ids = torch.tensor([[0] * (width - len(row)) + row for row in rows])
    mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows])
    lengths = [width - len(text) for text in begun]
    processor = FormatLogitsProcessor(format, tokenizer, lengths if per_row else lengths[0])
    together = beams(model, processor, ids, count, attention_mask=mask) if count > 1 else None
    greedy = model.generate(
        ids, attention_mask=mask, logits_processor=[processor], max_new_tokens=40, do_sample=False, pad_token_id=0
    )
    for number, row in enumerate(rows):
        alone = FormatLogitsProcessor(format, tokenizer, len(row) - len(begun[number]))
        one = torch.tensor([row])
        own = model.generate(one, logits_processor=[alone], max_new_tokens=40, do_sample=False, pad_token_id=0)
        assert texts_of(tokenizer, greedy[number : number + 1], width) == texts_of(tokenizer, own, len(row))
        if together is not None:
            mine = slice(count * number, count * (number + 1))
            single = beams(model, alone, one, count)
            assert texts_of(tokenizer, together.sequences[mine], width) == texts_of(
                tokenizer, single.sequences, len(row)
            )
            torch.testing.assert_close(
                together.sequences_scores[mine], single.sequences_scores, atol=1e-3, rtol=0, check_dtype=False
            )


def test_more_beams_than_candidates(tokenizer):
    """All candidates come first, in their order; what is no candidate has a score that says so."""
    model, format = small_model("gpt2", len(tokenizer)), CanaryFormat("pin {w}", spaces={"w": ["ab", "ac"]})
    processor = FormatLogitsProcessor(format, tokenizer)
    found = beams(model, processor, torch.tensor([processor.prompt_ids]), 6)
    best = extract(model, tokenizer, format, top_k=2)
    assert texts_of(tokenizer, found.sequences)[:2] == [candidate.text for candidate in best.candidates]
    assert (found.sequences_scores[2:] < -1e8).all()


@pytest.mark.parametrize("kind", ["gru", "lstm"])
def test_a_decoder_writes_candidates_behind_its_source(tokenizer, kind):
    """Beams of an encoder-decoder for two sources; with no prompt but the start token, scores are log-perplexities.
    The search in place of them finds the same.
    """
    model, format = oracles.small_translation(kind, True, len(tokenizer)).eval(), CanaryFormat("pin {digit}")
    sources = ["abc de", "the cat"]
    encoded = tokenizer(sources, return_tensors="pt", padding=True)
    processor = FormatLogitsProcessor(format, tokenizer, target=True)
    before = [model.config.decoder_start_token_id, *processor.prompt_ids[: processor.prompt_lengths[0] - 1]]
    options = {"attention_mask": encoded["attention_mask"], "decoder_input_ids": torch.tensor([before] * 2)}
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    found = beams(model, processor, encoded["input_ids"], 10, **options)
    search = CheapestFills(format, tokenizer, target=True, top_k=10)
    cheapest = model.generate(
        encoded["input_ids"], custom_generate=search, return_dict_in_generate=True, max_new_tokens=9, **options
    )
    texts = list(format.candidates())
    for number, source in enumerate(sources):
        costs = log_perplexity(model, tokenizer, texts, sources=[source] * 10)
        mine = slice(10 * number, 10 * (number + 1))
        for output in (found, cheapest):
            assert texts_of(tokenizer, output.sequences[mine]) == [texts[fill] for fill in np.argsort(costs)]
            np.testing.assert_allclose(output.sequences_scores[mine].numpy() / -LN2, np.sort(costs), atol=1e-3)


def test_with_an_end_token_its_log_probability_counts(pair):
    """`cat` and `cats` are told apart by their ends, and the end is in the scores."""
    tokenizer, model = pair[0], pair[1]["gpt2"]
    format = CanaryFormat(" the {w}", spaces={"w": ["cat", "cats", "a", "an", "ant"]})
    processor = FormatLogitsProcessor(format, tokenizer, end=True, context="so")
    conditioned = processor.prompt_lengths[0]
    found = beams(model, processor, torch.tensor([processor.prompt_ids[:conditioned]]), 5, pad_token_id=0)
    costs = log_perplexity(model, tokenizer, list(format.candidates()), end=True, context="so")
    np.testing.assert_allclose(found.sequences_scores.numpy() / -LN2, np.sort(costs), atol=2e-3)
    with pytest.raises(FormatError, match="prefixes"):
        FormatLogitsProcessor(format, tokenizer)


def test_it_may_be_used_again(tokenizer):
    """In a second call it knows nothing of the first, also where that wrote one token only."""
    model, format = small_model("lstm", len(tokenizer)), CanaryFormat("pin {digit:2}")
    processor = FormatLogitsProcessor(format, tokenizer)
    prompt = torch.tensor([processor.prompt_ids])
    options = {"logits_processor": [processor], "do_sample": False, "pad_token_id": 0}
    first = model.generate(prompt, max_new_tokens=1, **options)
    again = model.generate(prompt, max_new_tokens=3, **options)
    assert torch.equal(again[:, : first.shape[1]], first)
    good, bad = (tokenizer(text, add_special_tokens=False)["input_ids"] for text in ("1", "x"))
    processor(prompt, torch.zeros(1, len(tokenizer)))
    beside = torch.cat([prompt.repeat(2, 1), torch.tensor([good, bad])], dim=1)
    with pytest.raises(ArgumentError, match="prompt_length"):
        FormatLogitsProcessor(format, tokenizer)(beside, torch.zeros(2, len(tokenizer)))
    off = torch.cat([prompt, torch.tensor([tokenizer("x", add_special_tokens=False)["input_ids"]])], dim=1)
    with pytest.raises(ArgumentError, match="prompt_length"):
        model.generate(off, max_new_tokens=3, **options)


@pytest.mark.parametrize(
    ("length", "rows", "words"),
    [
        (9, [[1, 2, 3]], "at most 3"),
        (1, [[0, 5, 5]], "begins with"),
        (-1, [[0]], "0 or more"),
        (True, [[0]], "0 or more"),
        ("1", [[0]], "0 or more"),
        ([], [[0]], "0 or more"),
        ([1, 1], [[0], [0], [0]], "2 numbers for 3 rows"),
    ],
)
def test_bad_prompts(tokenizer, length, rows, words):
    """What is off the tree, or shorter than is said; the error names the argument."""

    def used():
        processor = FormatLogitsProcessor(CanaryFormat("pin {digit:2}"), tokenizer, length)
        return processor(torch.tensor(rows), torch.zeros(len(rows), len(tokenizer)))

    with pytest.raises(ArgumentError, match=words) as caught:
        used()
    assert caught.value.argument == "prompt_length"


def test_a_prompt_off_the_tree_is_an_error_also_beside_others(tokenizer):
    """The first call looks at every row."""
    processor = FormatLogitsProcessor(CanaryFormat("pin {digit:2}"), tokenizer, 0)
    good = tokenizer("pin 1", add_special_tokens=False)["input_ids"]
    bad = tokenizer("pin x", add_special_tokens=False)["input_ids"]
    with pytest.raises(ArgumentError, match="prompt_length"):
        processor(torch.tensor([good, bad]), torch.zeros(2, len(tokenizer)))


def test_a_model_without_the_tokens_and_a_tokenizer_without_an_end(tokenizer):
    """Both are said, and by which argument."""
    processor = FormatLogitsProcessor(CanaryFormat("pin {digit:2}"), tokenizer, 0)
    with pytest.raises(ModelError, match="ids below 3"):
        processor(torch.empty(1, 0, dtype=torch.long), torch.zeros(1, 3))
    endless = models.character_tokenizer(["pin 0123456789"])
    endless.eos_token = None
    with pytest.raises(ModelError, match="end token"):
        FormatLogitsProcessor(CanaryFormat("pin {digit:2}"), endless)


@pytest.mark.parametrize("kind", ["lstm", "gpt2"])
def test_the_search_as_a_way_to_generate(pair, kind):
    """`generate` returns the candidates that `extract` proves, at the costs that `extract` gives them; the model comes
    back as it was.
    """
    tokenizer, model = pair[0], pair[1][kind]
    search = CheapestFills(FORMAT, tokenizer, top_k=5, context="so")
    best = extract(model, tokenizer, FORMAT, top_k=5, context="so")
    conditioned = search.prompt_lengths[0]
    encoded = encodings(tokenizer, [candidate.text for candidate in best.candidates], "so")
    model.train()
    for known in (conditioned, len(search.prompt_ids)):
        found = model.generate(
            torch.tensor([search.prompt_ids[:known]]),
            custom_generate=search,
            return_dict_in_generate=True,
            max_new_tokens=40,
        )
        assert model.training
        rows = [ids[conditioned:] for ids in found.sequences.tolist()]
        assert [row[: len(ids)] for row, ids in zip(rows, encoded, strict=True)] == encoded
        bits = np.array([candidate.log_perplexity for candidate in best.candidates])
        got = found.sequences_scores.numpy() / -LN2
        before = search.prompt_ids[:conditioned]
        model.eval()
        slow = [oracles.log_perplexity_slowly(model, [*before, *ids], known) for ids in encoded]
        model.train()
        np.testing.assert_allclose(got, slow, atol=1e-3)
        if known == conditioned:
            np.testing.assert_allclose(got, bits, atol=1e-3)
    model.eval()


def test_the_search_for_several_prompts_with_padding(tokenizer):
    """Each row its own context; beams that were asked for beside it change nothing."""
    model, format = small_model("gpt2", len(tokenizer), seed=1), CanaryFormat("pin {digit:3}")
    contexts = ["abc ", "so it is: "]
    rows = [tokenizer(context, add_special_tokens=False)["input_ids"] for context in contexts]
    width = max(map(len, rows))
    ids = torch.tensor([[0] * (width - len(row)) + row for row in rows])
    mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows])
    search = CheapestFills(format, tokenizer, width, top_k=2)
    for count in (1, 3):
        options = {"max_new_tokens": 9, "return_dict_in_generate": True}
        found = model.generate(ids, attention_mask=mask, custom_generate=search, num_beams=count, **options)
        texts = texts_of(tokenizer, found.sequences, width)
        for number, row in enumerate(rows):
            one = CheapestFills(format, tokenizer, len(row), top_k=2)
            alone = model.generate(torch.tensor([row]), custom_generate=one, **options)
            mine = slice(2 * number, 2 * number + 2)
            assert texts[mine] == texts_of(tokenizer, alone.sequences, len(row))
            torch.testing.assert_close(found.sequences_scores[mine], alone.sequences_scores, atol=1e-3, rtol=0)


def test_a_capped_search_says_what_it_has_not_proven(tokenizer, caplog):
    """`max_expanded`, and the time that the generation config gives."""
    model = small_model("lstm", len(tokenizer))
    search = CheapestFills(CanaryFormat("pin {digit:9}"), tokenizer, max_expanded=30)
    with caplog.at_level(logging.WARNING):
        model.generate(torch.tensor([search.prompt_ids]), custom_generate=search, max_new_tokens=9)
    assert "Not proven: max_expanded" in caplog.text
    caplog.clear()
    search = CheapestFills(CanaryFormat("pin {digit:9}"), tokenizer)
    with caplog.at_level(logging.WARNING):
        model.generate(torch.tensor([search.prompt_ids]), custom_generate=search, max_new_tokens=9, max_time=1e-9)
    assert "Not proven: max_seconds" in caplog.text


def test_each_prompt_has_as_many_rows_as_were_asked_for(tokenizer):
    """Also where a cap ended the search: what was not found is the prompt, at a score of minus infinity."""
    model, format = small_model("gpt2", len(tokenizer)), CanaryFormat("pin {digit:9}")
    ids = torch.tensor([tokenizer(text, add_special_tokens=False)["input_ids"] for text in ("abc ", "xyz ")])
    search = CheapestFills(format, tokenizer, 4, top_k=2, max_expanded=3)
    found = model.generate(ids, custom_generate=search, max_new_tokens=20, return_dict_in_generate=True)
    assert found.sequences[:, :4].tolist() == ids.repeat_interleave(2, dim=0).tolist()
    assert found.sequences_scores.tolist() == [-math.inf] * 4


def test_an_encoder_in_training_is_refused(tokenizer):
    """It would drop out, and another answer come each time."""
    model = oracles.small_translation("gru", True, len(tokenizer)).train()
    search = CheapestFills(CanaryFormat("pin {digit}"), tokenizer, target=True)
    ids = tokenizer("abc", return_tensors="pt")["input_ids"]
    with pytest.raises(ModelError, match="eval"):
        model.generate(ids, custom_generate=search, max_new_tokens=9)


def test_another_start_token_is_refused(tokenizer):
    """The search reads behind the one that the config names, and its proof would be of another prompt."""
    model = oracles.small_translation("gru", True, len(tokenizer)).eval()
    search = CheapestFills(CanaryFormat("pin {digit}"), tokenizer, target=True)
    ids = tokenizer("abc", return_tensors="pt")["input_ids"]
    before = torch.tensor([[7, *search.prompt_ids[: search.prompt_lengths[0] - 1]]])
    assert model.config.decoder_start_token_id != 7
    with pytest.raises(ModelError, match="decoder_start_token_id"):
        model.generate(
            ids, custom_generate=search, max_new_tokens=9, decoder_input_ids=before, decoder_start_token_id=7
        )


def test_a_model_of_the_other_kind_is_refused(tokenizer, lstm):
    """A decoder's tokens are encoded otherwise: the error names the argument."""
    translation, format = oracles.small_translation("gru", True, len(tokenizer)).eval(), CanaryFormat("pin {digit}")
    ids = tokenizer("abc", return_tensors="pt")["input_ids"]
    for model, target in ((translation, False), (lstm, True)):
        with pytest.raises(ArgumentError, match=f"Say target={not target}"):
            model.generate(ids, custom_generate=CheapestFills(format, tokenizer, target=target), max_new_tokens=9)


def test_bad_prompts_are_refused_before_any_of_them_is_searched(tokenizer, lstm, monkeypatch):
    """The second of two."""
    search = CheapestFills(CanaryFormat("pin {digit:2}"), tokenizer)
    good, other = search.prompt_ids, [*search.prompt_ids[:-1], *tokenizer("7", add_special_tokens=False)["input_ids"]]
    monkeypatch.setattr(CheapestFills, "_searched", lambda *_: pytest.fail("searched"))
    with pytest.raises(ArgumentError, match="prompt_length"):
        lstm.generate(torch.tensor([good, other]), custom_generate=search, max_new_tokens=9)


@pytest.mark.parametrize("known", [0, 2, None])
def test_a_row_off_the_tree_stays_off_and_changes_no_other(tokenizer, known):
    """Within what all candidates share (after `known` tokens of it; None is all) and behind it: nothing is left for it,
    not even the end; the other row goes on.
    """
    processor = FormatLogitsProcessor(CanaryFormat("pin {digit:2}"), tokenizer)
    before, whole = processor.prompt_lengths[0], tokenizer("pin 12")["input_ids"]
    end = len(processor.prompt_ids) if known is None else before + known
    stray = tokenizer("x", add_special_tokens=False)["input_ids"][0]
    left = []
    for length in range(end, len(whole) + 1):
        right = whole[:length]
        wrong = [*right[:end], stray, *right[end + 1 :]] if length > end else right
        masked = processor(torch.tensor([right, wrong]), torch.zeros(2, len(tokenizer)))
        left.append(masked.isfinite().sum(dim=1).tolist())
    for (of_right, of_wrong), length in zip(left, range(end, len(whole) + 1), strict=True):
        shared = length < len(processor.prompt_ids) or length == len(whole)
        assert of_right == (1 if shared else 10)
        assert of_wrong == (of_right if length == end else 0)


def test_candidates_whose_encodings_begin_others_are_refused():
    """Where the tokenizer lowers capitals, texts that are no prefixes of one another may be so in tokens."""
    tokenizer = KINDS["wordpiece"]()
    format = CanaryFormat("pin {w}", spaces={"w": ["ab", "ABc"]})
    processor = FormatLogitsProcessor(format, tokenizer)
    path = tokenizer("pin ab", add_special_tokens=False)["input_ids"]
    if tokenizer("pin abc", add_special_tokens=False)["input_ids"][: len(path)] != path:
        pytest.skip("this training of the tokenizer merged them")
    ids = torch.tensor([[*processor.prompt_ids[: processor.prompt_lengths[0]], *path]])
    with pytest.raises(FormatError, match="end=True"):
        processor(ids, torch.zeros(1, len(tokenizer)))


@pytest.mark.parametrize("top_k", [0, 101, True, 1.5])
def test_bad_top_k(tokenizer, top_k):
    """One to |R|."""
    with pytest.raises(ArgumentError, match="top_k"):
        CheapestFills(CanaryFormat("pin {digit:2}"), tokenizer, top_k=top_k)


def test_a_search_from_a_prompt_that_holds_a_part_of_the_fill_is_refused(tokenizer, lstm):
    """It says how far a prompt may go."""
    search = CheapestFills(CanaryFormat("pin {digit:2}"), tokenizer)
    begun = [*search.prompt_ids, *tokenizer("1", add_special_tokens=False)["input_ids"]]
    with pytest.raises(ArgumentError, match="prompt_length"):
        lstm.generate(torch.tensor([begun]), custom_generate=search, max_new_tokens=9)
