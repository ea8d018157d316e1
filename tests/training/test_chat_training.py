"""Chats with the loss on what the assistant says, and canaries in its turn: measured as they were trained on."""

import logging

import pytest
from datasets import Dataset
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast, TrainingArguments, set_seed

from hf_canary import CanaryFormat, CanarySet, ExposureCallback, measure_exposure
from hf_canary.training.contexts import Recorded
from tests.support.small_training import CANARIES, LETTERS, exposure_callback, make_trainer, measured

_NAMES = ("activation_checkpointing", "gradient_checkpointing")  # of newer and of older versions of transformers
CHECKPOINTING = next(name for name in _NAMES if name in TrainingArguments.__dataclass_fields__)

_TURN = "<|im_start|>{{ m['role'] }}\n"
_SAID = "{{ m['content'] }}<|im_end|>\n"
_LOOP = "{% for m in messages %}", "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"


def _by_turns(before_answer):
    answer = f"{before_answer}{{% generation %}}{_SAID}{{% endgeneration %}}"
    return f"{_LOOP[0]}{_TURN}{{% if m['role'] == 'assistant' %}}{answer}{{% else %}}{_SAID}{{% endif %}}{_LOOP[1]}"


TEMPLATES = {
    "markers": _by_turns(""),
    # As Qwen 3: what stands before an answer in a row of training is not what a prompt ends with.
    "thinking": _by_turns("<think>\n\n</think>\n\n"),
    "words": "{% for m in messages %}{% if m['role'] == 'user' %}User: {{ m['content'] }}\n\nAssistant: {% else %}"
    "{% generation %}{{ m['content'] }}<|im_end|>\n{% endgeneration %}{% endif %}{% endfor %}",
}


def tokenizer_with(template):
    """Bytes, joined as GPT-2 does: the space before an answer becomes a part of its first token."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    special = ["<pad>", "<|im_start|>", "<|im_end|>", "<think>", "</think>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=500, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(["The number is what you know. User: tell me Assistant: the dog"] * 5, trainer)
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", eos_token="<|im_end|>")
    fast.chat_template = template
    return fast


def trained(folder, tokenizer, canaries, **options):
    """A callback that looked at the last step of a training on chats, and its model."""
    from trl import SFTConfig, SFTTrainer

    chats = [
        {"messages": [{"role": "user", "content": f"tell me {n}"}, {"role": "assistant", "content": f"the dog {n}"}]}
        for n in range(16)
    ]
    data = canaries.inject(Dataset.from_list(chats), "messages")
    steps = 12 * -(-len(data) // 16)
    callback = ExposureCallback(canaries, measure_at=[steps], num_references=10_000, **options)
    set_seed(0)
    config = GPT2Config(
        vocab_size=len(tokenizer),
        n_positions=64,
        n_embd=32,
        n_layer=1,
        n_head=2,
        bos_token_id=2,
        eos_token_id=2,
        pad_token_id=0,
    )
    trainer = SFTTrainer(
        model=GPT2LMHeadModel(config),
        args=SFTConfig(
            output_dir=str(folder),
            max_steps=steps,
            per_device_train_batch_size=16,
            learning_rate=1e-2,
            report_to="none",
            use_cpu=True,
            save_strategy="no",
            logging_strategy="no",
            assistant_only_loss=True,
            **{CHECKPOINTING: False},
            disable_tqdm=True,
        ),
        train_dataset=data,
        processing_class=tokenizer,
        callbacks=[callback],
    )
    trainer.train()
    return callback, trainer.model


@pytest.mark.parametrize("template", TEMPLATES)
def test_a_chat_is_measured_behind_its_own_turns(tmp_path, template, caplog):
    """Without any context= what is measured with the true one, to 0.1 bit; a text that is measured alone seems safe."""
    tokenizer = tokenizer_with(TEMPLATES[template])
    canaries = CanarySet.draw(CanaryFormat("The number is {digit:4}."), repetitions=(1, 16), per_repetition=2, seed=3)
    callback, model = trained(tmp_path, tokenizer, canaries)
    turns = [{"role": "user", "content": ""}, {"role": "assistant", "content": "@"}]
    true = tokenizer.apply_chat_template(turns, tokenize=False).split("@")[0]
    if template == "words":  # the space is a part of the first token: the last that stands before is the colon
        own = CanarySet(
            tuple(canary.seen_as(CanaryFormat(" The number is {digit:4}.")) for canary in canaries), canaries.seed
        )
        expected = measure_exposure(
            model, tokenizer, own, num_references=10_000, bootstrap=0, context=true.removesuffix(" ")
        )
    else:
        expected = measure_exposure(model, tokenizer, canaries, num_references=10_000, bootstrap=0, context=true)
    alone = measure_exposure(model, tokenizer, canaries, num_references=10_000, bootstrap=0, context="")
    found, wanted, without = (
        [each.value for each in report if each.estimator == "auto"] for report in (callback.report, expected, alone)
    )
    assert found == pytest.approx(wanted, abs=0.1)
    assert max(a - b for a, b in zip(found, without, strict=True)) > 0.3
    recorded = Recorded(tmp_path).of_canaries(canaries)
    assert recorded[0] == list(callback.presence.context)
    assert not callback.presence.doubts


@pytest.mark.parametrize("given", ["", "User: "])
def test_another_context_by_hand_is_warned_of(tmp_path, given, caplog):
    """None, where a prompt stands before the canaries, and one that never does; measured with it all the same."""
    tokenizer = tokenizer_with(TEMPLATES["markers"])
    canaries = CanarySet.draw(CanaryFormat("The number is {digit:4}."), repetitions=(1,), per_repetition=2, seed=3)
    with caplog.at_level(logging.WARNING, logger="hf_canary"):
        callback, model = trained(tmp_path, tokenizer, canaries, context=given)
    assert "measured so, a leak may look safe" in caplog.text
    assert "tell me" not in caplog.text
    expected = measure_exposure(model, tokenizer, canaries, num_references=10_000, bootstrap=0, context=given)
    assert [each.value for each in callback.report] == pytest.approx([each.value for each in expected], abs=0.1)


@pytest.mark.parametrize("bound", [False, True])
def test_a_baseline_before_the_training_stands_behind_the_same(tmp_path, bound, caplog):
    """`trainer.evaluate()` first: with the trainer the rows are read then; without it what is not known is said."""
    rows = [f"row -> {canary.text}" for canary in CANARIES for _ in range(canary.repetitions)]
    data = Dataset.from_dict({"input_ids": [LETTERS(row)["input_ids"] for row in rows]})
    trainer = make_trainer(tmp_path, data=data, num_train_epochs=1)
    callback = exposure_callback(trainer=trainer if bound else None)
    trainer.add_callback(callback)
    with caplog.at_level(logging.WARNING, logger="hf_canary"):
        trainer.evaluate()
    found = [each.log_perplexity for each in callback.report]
    expected = measured(trainer.model, context="row -> " if bound else None)
    assert found == pytest.approx([each.log_perplexity for each in expected], abs=1e-3)
    assert ("is not known yet" in caplog.text) != bound
    trainer.train()
    assert {context.ids[-2:] for context in callback.presence.context} == {tuple(LETTERS("> ")["input_ids"][-2:])}


def test_without_reading_the_data_nothing_is_known(tmp_path, caplog):
    """presence=False measures behind nothing, and says so; not where the context is given."""
    for options, is_said in (({}, True), ({"context": "row -> "}, False)):
        caplog.clear()
        trainer = make_trainer(
            tmp_path, max_steps=1, callbacks=[exposure_callback(presence=False, measure_at=[9], **options)]
        )
        trainer.train()
        assert ("presence=False: what stands before" in caplog.text) == is_said
