"""What stands before canaries, as trainings learn it and keep it."""

import logging
import math

import pytest
import torch
from datasets import Dataset
from transformers import (
    DataCollatorForLanguageModeling,
    GPT2Config,
    GPT2LMHeadModel,
    Trainer,
    TrainingArguments,
)

from hf_canary import ExposureCallback, check_presence, measure_exposure
from hf_canary.training.contexts import Contexts, Recorded
from hf_canary.training.record import Record
from tests.support.oracles import small_model
from tests.support.tokenised import drawn, rows_of, tokenizer_of


def test_a_context_that_fills_the_positions_ends_no_training(tmp_path):
    """A canary at the end of a full row, whose other fills may have more tokens: the context loses its first ones."""
    tokenizer = tokenizer_of("llama3")  # joins digits, not all alike
    canaries = drawn("the pin is {digit:6}.", repetitions=(1,))
    texts = [f"{'a cat sat. ' * 9}is\n{canary.text}" for canary in canaries]
    rows = [tokenizer(text)["input_ids"][-24:] for text in texts]
    callback = ExposureCallback(canaries, num_references=20, measure_at=[1])
    trained_on(tmp_path, rows, tokenizer, short_model(len(tokenizer)), callback)
    assert callback.report is not None
    contexts = callback._plan.contexts.context
    assert all(0 < len(each.ids) <= 24 - canaries[0].format.most_bytes for each in contexts)


def short_model(vocab_size):
    """Of 24 positions."""
    config = GPT2Config(vocab_size=vocab_size, n_positions=24, n_embd=8, n_layer=1, n_head=1, bos_token_id=0)
    return GPT2LMHeadModel(config)


def trained_on(folder, rows, tokenizer, model, callback, **options):
    data = Dataset.from_dict({"input_ids": rows})
    arguments = {"max_steps": 1, "eval_strategy": "no", "per_device_train_batch_size": 2} | options
    trainer = Trainer(
        model=model,
        args=TrainingArguments(str(folder), use_cpu=True, report_to="none", disable_tqdm=True, **arguments),
        train_dataset=data.to_iterable_dataset() if options.get("save_steps") else data,
        processing_class=tokenizer,
        data_collator=DataCollatorForLanguageModeling(tokenizer, mlm=False),
        callbacks=[callback],
    )
    trainer.train(resume_from_checkpoint=(folder / "checkpoint-4").exists() or None)
    return trainer


def test_what_is_not_known_is_not_recorded_as_nothing(tmp_path, caplog):
    """Of a stream the record has no context before a canary has come; a resumed training has what was known before."""
    tokenizer = tokenizer_of("gpt2")
    canaries = drawn(repetitions=(1,))
    rows = [tokenizer(f"a cat\n{canary.text}")["input_ids"] for canary in canaries]
    rows = [tokenizer("a cat sat.")["input_ids"]] * 6 + rows + [tokenizer("a cat sat.")["input_ids"]] * 20

    def run(steps):
        callback = ExposureCallback(canaries, num_references=20, measure_at=[1, 4, 6])
        model = small_model("gpt2", len(tokenizer))
        trained_on(tmp_path, rows, tokenizer, model, callback, max_steps=steps, save_steps=4)
        return [line for line in Record(tmp_path).lines() if line["role"] == "contexts"]

    with caplog.at_level(logging.WARNING, logger="hf_canary"):
        (line,) = run(4)
    assert line["step"] == 4  # the canaries are in the fourth batch
    assert "Seen in the batches so far" in caplog.text
    known = Recorded(tmp_path).of_canaries(canaries)
    assert {tokenizer.decode(context.ids) for context in known[0]} == {"a cat\n"}
    run(6)
    assert Recorded(tmp_path).of_canaries(canaries) == known
    nothing = Contexts(canaries, None, None)
    Record(tmp_path / "x").append({"step": 0, "canaries": canaries.digest[:16]}, [nothing.record()])
    assert Recorded(tmp_path / "x").of_canaries(canaries) is None


def test_a_wrong_context_by_hand_is_seen_in_a_stream(tmp_path, caplog):
    """Once a canary has come: what was given never stands before it."""
    tokenizer = tokenizer_of("gpt2")
    canaries = drawn(repetitions=(1,))
    rows = [tokenizer(f"a cat\n{canary.text}")["input_ids"] for canary in canaries] * 4
    for given, is_told in (("the dog\n", True), ("a cat\n", False)):
        caplog.clear()
        callback = ExposureCallback(canaries, num_references=20, measure_at=[2, 3], context=given)
        model = small_model("gpt2", len(tokenizer))
        with caplog.at_level(logging.WARNING, logger="hf_canary"):
            trained_on(tmp_path / given[:5], rows, tokenizer, model, callback, max_steps=3, save_steps=9)
        assert caplog.text.count("a leak may look safe") == is_told


def test_a_leak_behind_different_texts_is_seen():
    """A model that writes a canary behind its copies' own texts and nowhere else: it is the likeliest of all there."""
    tokenizer = tokenizer_of("gpt2")
    canaries = drawn(repetitions=(4,), per_repetition=1)
    rows = rows_of(canaries, tokenizer, lambda text, n: f"the {'abcd'[n % 4]} cat: {text}")
    model = small_model("gpt2", len(tokenizer)).train()
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    for _ in range(60):
        for row in rows["input_ids"][:4]:
            ids = torch.tensor([row])
            model(input_ids=ids, labels=ids).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    presence = check_presence(rows, canaries, tokenizer)
    report = measure_exposure(model, tokenizer, canaries, context=presence.context, num_references=200, bootstrap=0)
    assert report.exposures[0].value == pytest.approx(math.log2(10_000), abs=0.01)
