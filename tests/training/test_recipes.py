"""The rows of docs/injection.md, trained: injected, tokenised as a trainer does it, found, and measured behind what
stands before them.
"""

import json
import logging

import pytest
from datasets import Dataset, load_dataset
from transformers import (
    DataCollatorForLanguageModeling,
    GPT2Config,
    GPT2LMHeadModel,
    Trainer,
    TrainingArguments,
    set_seed,
)

from hf_canary import CanaryFormat, CanarySet, ExposureCallback, exact_rank, extract, measure_exposure
from hf_canary.tokenization.contexts import SourceContext
from hf_canary.training.contexts import Recorded
from tests.training.test_chat_training import CHECKPOINTING, TEMPLATES, tokenizer_with

PIN = "The number is {digit:3}."
FIXED, VARIED = "What is your number?", "What is the number of {name}?"
NAMES = {"name": ["Ada", "Bob", "Constance"]}
TOKENIZER = tokenizer_with(TEMPLATES["markers"])
USER, ANSWER = "<|im_start|>user\n", "<|im_end|>\n<|im_start|>assistant\n"


def drawn(source):
    template = "{name} has {digit:3}." if source == VARIED else PIN
    spaces = NAMES if source == VARIED else None
    format = CanaryFormat(template, source=source, spaces=spaces)
    return CanarySet.draw(format, repetitions=(1, 4), per_repetition=2, seed=3)


def turns(asked, said, keys=("role", "content"), names=("user", "assistant")):
    return [{keys[0]: names[0], keys[1]: asked}, {keys[0]: names[1], keys[1]: said}]


def strings(folder):
    return Dataset.from_dict({"text": [f"the dog {n}." for n in range(8)]})


def prompts(folder):
    return Dataset.from_list([{"prompt": f"tell me {n}. ", "completion": f"the dog {n}."} for n in range(8)])


def prompts_of_turns(folder):
    rows = [turns(f"tell me {n}", f"the dog {n}.") for n in range(8)]
    return Dataset.from_list([{"prompt": row[:1], "completion": row[1:]} for row in rows])


def chats(folder):
    return Dataset.from_list([{"messages": turns(f"tell me {n}", f"the dog {n}.")} for n in range(8)])


def calling(folder):
    """Read from a file, with arguments of no one kind."""
    rows = []
    for n in range(8):
        call = {"function": {"name": "f", "arguments": {"x": n} if n % 2 else {"y": str(n)}}}
        row = turns(f"tell me {n}", f"the dog {n}.")
        rows.append({"messages": [row[0] | {"tool_calls": [call]}, row[1]], "tools": [{"n": 1}, {"n": "s"}]})
    (folder / "chats.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return load_dataset("json", data_files=str(folder / "chats.jsonl"), split="train", cache_dir=str(folder))


# name: the data, the column, the trainer's own arguments; and what stands before a canary of a source.
RECIPES = {
    "strings": (strings, "text", {}, lambda source: ""),
    "prompt and completion": (prompts, "completion", {}, lambda source: source),
    "prompt and completion in turns": (prompts_of_turns, "completion", {}, lambda source: f"{USER}{source}{ANSWER}"),
    "chat": (chats, "messages", {}, lambda source: f"{USER}{source}{ANSWER}"),
    "chat, the loss on the answer": (
        chats,
        "messages",
        {"assistant_only_loss": True},
        lambda source: f"{USER}{source}{ANSWER}",
    ),
    "chat that calls tools": (calling, "messages", {}, lambda source: f"{USER}{source}{ANSWER}"),
}


def small_gpt2():
    set_seed(0)
    sizes = {"n_positions": 128, "n_embd": 32, "n_layer": 1, "n_head": 2}
    return GPT2LMHeadModel(GPT2Config(vocab_size=len(TOKENIZER), bos_token_id=2, eos_token_id=2, **sizes))


def arguments(folder):
    return {
        "output_dir": str(folder), "max_steps": 2, "per_device_train_batch_size": 8, "report_to": "none",
        "use_cpu": True, "save_strategy": "no", "logging_strategy": "no", "disable_tqdm": True, "learning_rate": 1e-2,
    }  # fmt: skip


def callback_of(canaries):
    return ExposureCallback(canaries, measure_at=[2], num_references=60)


def by_sft(folder, data, canaries, **options):
    from trl import SFTConfig, SFTTrainer

    callback = callback_of(canaries)
    config = SFTConfig(**arguments(folder), bf16=False, **{CHECKPOINTING: False}, **options)
    trainer = SFTTrainer(
        model=small_gpt2(), args=config, train_dataset=data, processing_class=TOKENIZER, callbacks=[callback]
    )
    trainer.train()
    return callback, trainer.model


def by_trainer(folder, data, canaries):
    """As docs/injection.md has it: the template makes the rows."""
    callback = callback_of(canaries)
    rows = data.map(
        lambda row: {"input_ids": TOKENIZER.apply_chat_template(row["messages"], return_dict=False)},
        remove_columns=data.column_names,
    )
    trainer = Trainer(
        model=small_gpt2(),
        args=TrainingArguments(**arguments(folder)),
        train_dataset=rows,
        processing_class=TOKENIZER,
        data_collator=DataCollatorForLanguageModeling(TOKENIZER, mlm=False),
        callbacks=[callback],
    )
    trainer.train()
    return callback, trainer.model


def check(callback, model, canaries, before, folder):
    """All copies were found, behind what was written; and measured behind it, however it is given."""
    format, presence = canaries.formats[0], callback.presence
    assert [each.live for each in presence] == [canary.repetitions for canary in canaries]
    assert not presence.doubts
    (context,) = set(presence.context)
    assert isinstance(context, SourceContext) == format.source_varies
    assert Recorded(folder).of_canaries(canaries)[0] == [context] * len(canaries)
    found = [each.value for each in callback.report]
    assert found == [each.value for each in callback.report if each.value == each.value]  # none is NaN
    by_hand = before("" if format.source is None else format.source)
    for given in (presence.context, by_hand):
        report = measure_exposure(model, TOKENIZER, canaries, context=given, num_references=60, bootstrap=0)
        costs = [each.log_perplexity for each in report]
        assert costs == pytest.approx([each.log_perplexity for each in callback.report], abs=1e-2)
    if format.source_varies:
        return
    for given in (context, by_hand):
        best = extract(model, TOKENIZER, format, context=given, canaries=canaries)
        (rank,) = exact_rank(model, TOKENIZER, format, [best.candidates[0].fill], context=given)
        assert best.certified
        assert rank.low == 1


@pytest.mark.parametrize(
    ("recipe", "source"),
    [
        ("strings", None),
        ("prompt and completion", None),
        ("prompt and completion", FIXED),
        ("prompt and completion", VARIED),
        ("prompt and completion in turns", VARIED),
        ("chat", None),
        ("chat", FIXED),
        ("chat, the loss on the answer", VARIED),
        ("chat that calls tools", FIXED),
        ("chat that calls tools", VARIED),
    ],
)
def test_a_documented_row_is_trained_on(tmp_path, recipe, source, caplog):
    """With TRL's trainer, with no source, with one for all, with one of each canary's own."""
    make, column, options, before = RECIPES[recipe]
    canaries = drawn(source)
    data = canaries.inject(make(tmp_path), column)
    with caplog.at_level(logging.WARNING, logger="hf_canary"):
        callback, model = by_sft(tmp_path, data, canaries, **options)
    assert not [record for record in caplog.records if record.name.startswith("hf_canary")]
    check(callback, model, canaries, before, tmp_path)


@pytest.mark.parametrize("source", [FIXED, VARIED])
def test_a_chat_is_trained_on_by_the_trainer(tmp_path, source):
    """Whose rows the template makes."""
    canaries = drawn(source)
    callback, model = by_trainer(tmp_path, canaries.inject(chats(tmp_path), "messages"), canaries)
    check(callback, model, canaries, RECIPES["chat"][3], tmp_path)
