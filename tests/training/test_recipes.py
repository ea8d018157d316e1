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
    GPT2ForSequenceClassification,
    GPT2LMHeadModel,
    Trainer,
    TrainingArguments,
    set_seed,
)

from hf_canary import (
    CanaryFormat,
    CanarySet,
    ExposureCallback,
    check_presence,
    exact_rank,
    extract,
    measure_exposure,
)
from hf_canary.errors import ModelError
from hf_canary.tokenization.contexts import SourceContext
from hf_canary.training.contexts import Recorded
from tests.support.errors import check_error
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


# ---------------------------------------------------------------------------------------------- preferences, rewards


def answers(canary):
    """A row of pairs: the canary is the answer that is wanted."""
    return {"prompt": canary.source, "chosen": canary.text, "rejected": "no."}


def by_trl(folder, name, data, bound, model=None, steps=2):
    """Any trainer of TRL, by its name; it has a model of reference that it loads itself."""
    import trl

    model = small_gpt2() if model is None else model
    model.save_pretrained(folder / "model")
    TOKENIZER.save_pretrained(folder / "model")
    config = getattr(trl, f"{name}Config")(
        **(arguments(folder) | {"max_steps": steps, "per_device_train_batch_size": 4}),
        bf16=False,
        **{CHECKPOINTING: False},
        **({"num_generations": 2, "max_completion_length": 4} if name in ONLINE else {}),
    )
    rewards = {"reward_funcs": lambda completions, **_: [float(len(each)) for each in completions]}
    trainer = getattr(trl, f"{name}Trainer")(
        model=model if name == "Reward" else str(folder / "model"),
        args=config,
        train_dataset=data,
        processing_class=TOKENIZER,
        **(rewards if name in ONLINE else {}),
    )
    callback = ExposureCallback(CANARIES, measure_at=[steps], num_references=60, trainer=trainer if bound else None)
    trainer.add_callback(callback)
    trainer.train()
    return callback, trainer


CANARIES = drawn(FIXED)
ONLINE = ("GRPO", "RLOO")
pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore:.*eos_token_id.*")  # of TRL's own


@pytest.mark.parametrize("bound", [False, True])
@pytest.mark.parametrize("name", ["DPO", "KTO"])
def test_answers_that_are_preferred_are_trained_on(tmp_path, name, bound):
    """Found in the rows of prompts and answers, counted once each in the batches, and measured behind the prompt."""
    rows = [{"prompt": f"tell me {n}. ", "chosen": f"the dog {n}.", "rejected": "no."} for n in range(6)]
    wanted = [{"prompt": f"tell me {n}. ", "completion": f"the dog {n}.", "label": n % 2 == 0} for n in range(6)]
    if name == "DPO":
        data = CANARIES.inject(Dataset.from_list(rows), "chosen", make_row=answers)
    else:
        data = CANARIES.inject(
            Dataset.from_list(wanted),
            "completion",
            make_row=lambda canary: {"prompt": canary.source, "completion": canary.text, "label": True},
        )
    callback, trainer = by_trl(tmp_path, name, data, bound, steps=4)
    check(callback, trainer.model, CANARIES, lambda source: source, tmp_path)
    assert trainer.state.epoch == 1
    for canary in CANARIES:
        both = {"copies_found": canary.repetitions, "copies_trained": canary.repetitions}
        assert callback.report.copies[canary.id] == both


def test_answers_that_are_not_wanted_are_not_learned(tmp_path):
    """Those that KTO is to unlearn are masked."""
    rows = [{"prompt_ids": [5, 6], "completion_ids": TOKENIZER(c.text)["input_ids"], "label": False} for c in CANARIES]
    presence = check_presence(Dataset.from_list(rows), CANARIES, TOKENIZER)
    assert [each.reason for each in presence][:2] == ["masked", "masked"]
    assert not any(each.live for each in presence)


@pytest.mark.parametrize(("name", "bound"), [("GRPO", False), ("GRPO", True), ("RLOO", True)])
def test_a_model_that_learns_from_its_own_texts_is_measured(tmp_path, name, bound, caplog):
    """With numbers, bound to the trainer or not, beyond an epoch too; what cannot be told is said, in whole words."""
    prompts_of = Dataset.from_list([{"prompt": f"tell me {n}. "} for n in range(2)])
    data = CANARIES.inject(prompts_of, "prompt", make_row=lambda canary: {"prompt": canary.source + canary.text})
    with caplog.at_level(logging.WARNING, logger="hf_canary"):
        callback, trainer = by_trl(tmp_path, name, data, bound, steps=8)
    assert trainer.state.epoch > 1
    assert callback.report.is_valid
    assert not callback.report.dead
    assert all(each.value == each.value for each in callback.report if each.estimator == "auto")
    (record,) = [record for record in caplog.records if record.name.startswith("hf_canary")]
    assert "trained on what it writes itself" in record.message
    by_hand = measure_exposure(trainer.model, TOKENIZER, CANARIES, num_references=60, bootstrap=0)
    costs = [each.log_perplexity for each in callback.report]
    assert costs == pytest.approx([each.log_perplexity for each in by_hand], abs=1e-2)


@pytest.mark.parametrize("bound", [False, True])
def test_a_model_of_rewards_is_refused_before_the_first_step(tmp_path, bound):
    """By what it is: it writes nothing."""
    config = small_gpt2().config
    config.num_labels, config.pad_token_id = 1, 0
    model = GPT2ForSequenceClassification(config)
    rows = [{"prompt": f"tell me {n}. ", "chosen": f"the dog {n}.", "rejected": "no."} for n in range(6)]
    data = CANARIES.inject(Dataset.from_list(rows), "chosen", make_row=answers)
    with pytest.raises(ModelError, match="What classifies or rewards texts") as caught:
        by_trl(tmp_path, "Reward", data, bound, model=model)
    check_error(caught.value, ModelError, "model")


def test_what_cannot_be_read_ahead_is_told_in_whole_words(tmp_path, caplog):
    """Of a collator that tokenises: the batches tell instead."""
    data = CANARIES.inject(Dataset.from_list([{"prompt": "", "completion": "the dog."}] * 4), "completion")

    def collate(rows):
        batch = TOKENIZER([row["prompt"] + row["completion"] for row in rows], padding=True, return_tensors="pt")
        return {**batch, "labels": batch["input_ids"].clone()}

    callback = ExposureCallback(CANARIES, measure_at=[2], num_references=60)
    trainer = Trainer(
        model=small_gpt2(),
        args=TrainingArguments(**arguments(tmp_path), remove_unused_columns=False),
        train_dataset=data,
        processing_class=TOKENIZER,
        data_collator=collate,
        callbacks=[callback],
    )
    with caplog.at_level(logging.WARNING, logger="hf_canary"):
        trainer.train()
    assert "could not be checked before the first step; the batches will tell" in caplog.text
    assert "Give the dataset as the trainer has it, such as trainer.train_dataset." in caplog.text
    assert "..." not in caplog.messages[0]
    assert all(callback.report.copies[canary.id]["copies_trained"] for canary in CANARIES)
