"""What decoding draws at random are candidates, and how often is the model's."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hf_canary import FormatLogitsProcessor
from tests.support.repetitions import times
from tests.unit.test_decoding import FORMAT, encodings, until


@settings(deadline=None, max_examples=times(25))
@given(seed=st.integers(0, 10**6), temperature=st.sampled_from([0.3, 1.0, 5.0]), rows=st.integers(1, 5))
def test_sampling_writes_candidates_alone(pair, seed, temperature, rows):
    """Whatever is drawn, it is the encoding of a candidate, and then the end."""
    tokenizer, model = pair[0], pair[1]["lstm"]
    processor = FormatLogitsProcessor(FORMAT, tokenizer, context="so")
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        drawn = model.generate(
            torch.tensor([processor.prompt_ids]),
            logits_processor=[processor],
            do_sample=True,
            temperature=temperature,
            num_return_sequences=rows,
            max_new_tokens=40,
            pad_token_id=0,
        )
    encoded = encodings(tokenizer, list(FORMAT.candidates()), "so")
    before = processor.prompt_lengths[0]
    for row in drawn.tolist():
        assert tokenizer.eos_token_id in row
        assert until(row[before:], tokenizer.eos_token_id) in encoded
