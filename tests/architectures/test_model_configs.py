"""Translation models of the paper's sizes learn a pair of sentences."""

import pytest
import torch
from transformers import AutoConfig, AutoModelForSeq2SeqLM

import hf_canary.models as models


@pytest.mark.parametrize("name", ["marian-mini", "translation-gru", "translation-lstm-attention"])
def test_a_translation_model_of_a_file_learns_a_pair(name):
    """With the word tokenizer's ids: it starts with 2, ends with 2 and pads with 0."""
    tokenizer = models.word_tokenizer(["a dog", "un chien"], min_frequency=1, end_token=True)
    size = len(tokenizer)
    options = {"decoder_vocab_size": size} if name == "marian-mini" else {}
    config = AutoConfig.from_pretrained(models.config_file(name), vocab_size=size, **options)
    assert config.decoder_start_token_id == config.eos_token_id == tokenizer.eos_token_id
    assert config.pad_token_id == tokenizer.pad_token_id
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = AutoModelForSeq2SeqLM.from_config(config)
        optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
        batch = tokenizer("a dog", text_target="un chien", return_tensors="pt")
        for _ in range(40):
            optimizer.zero_grad()
            model(**batch).loss.backward()
            optimizer.step()
    written = model.eval().generate(batch.input_ids, max_new_tokens=6, do_sample=False)
    assert tokenizer.decode(written[0], skip_special_tokens=True) == "un chien"
