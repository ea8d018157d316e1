"""The stock trainers train the models: transformers' Trainer and Seq2SeqTrainer, and TRL's SFTTrainer."""

import platform

import datasets
import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSeq2SeqLM,
    DataCollatorForLanguageModeling,
    DataCollatorForSeq2Seq,
    Seq2SeqTrainer,
    Seq2SeqTrainingArguments,
    Trainer,
    TrainingArguments,
)

import hf_canary.models as models
from tests.support import oracles
from tests.support.fresh import run_python

KINDS = sorted(oracles.models_of_the_paper())
TEXTS = ["the pin is 123", "the cat is in", "a pin", "the pin is 1"] * 16


@pytest.fixture
def arguments(tmp_path):
    return {
        "output_dir": str(tmp_path),
        "max_steps": 40,
        "per_device_train_batch_size": 16,
        "learning_rate": 1e-2,
        "logging_steps": 5,
        "eval_strategy": "steps",
        "eval_steps": 40,
        "save_strategy": "steps",
        "save_steps": 40,
        "report_to": "none",
        "dataloader_pin_memory": False,
        "disable_tqdm": True,
    }


def fresh(kind, vocab_size):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return oracles.models_of_the_paper()[kind](vocab_size)


def losses(trainer):
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]


@pytest.mark.parametrize("kind", KINDS)
def test_trainer_trains(kind, tokenizer, arguments, tmp_path):
    """The loss falls, and the checkpoint that it leaves is the model."""
    model = fresh(kind, len(tokenizer))
    rows = datasets.Dataset.from_dict({"input_ids": tokenizer(TEXTS).input_ids})
    trainer = Trainer(
        model=model,
        args=TrainingArguments(**arguments),
        train_dataset=rows,
        eval_dataset=rows,
        processing_class=tokenizer,
        data_collator=DataCollatorForLanguageModeling(tokenizer, mlm=False),
    )
    trainer.train()
    assert losses(trainer)[-1] < 0.75 * losses(trainer)[0]
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path / "checkpoint-40")
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, loaded.state_dict()[name])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.filterwarnings("ignore")  # TRL warns of its own
def test_sft_trainer_trains(kind, tokenizer, arguments):
    """... with its defaults: activation checkpointing, and a head of its own over the model without one."""
    from trl import SFTConfig, SFTTrainer

    trainer = SFTTrainer(
        model=fresh(kind, len(tokenizer)),
        args=SFTConfig(**arguments, use_cpu=True),
        train_dataset=datasets.Dataset.from_dict({"text": TEXTS}),
        eval_dataset=datasets.Dataset.from_dict({"text": TEXTS[:4]}),
        processing_class=tokenizer,
    )
    end = tokenizer.eos_token_id
    assert trainer.train_dataset[2]["input_ids"] == [*tokenizer("a pin").input_ids, end]
    trainer.train()
    assert losses(trainer)[-1] < 0.75 * losses(trainer)[0]


PAIRS = [("the cat", "le chat"), ("a cat", "un chat"), ("the dog", "le chien"), ("a dog", "un chien"), ("a", "un")]


@pytest.mark.parametrize("cell", ["lstm", "gru"])
@pytest.mark.parametrize("attention", [False, True])
def test_seq2seq_trainer_trains_and_translates(cell, attention, arguments, tmp_path):
    """A dictionary of five, learned by heart; evaluated by `generate`, and again after loading."""
    tokenizer = models.word_tokenizer([text for pair in PAIRS for text in pair], min_frequency=1, end_token=True)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = models.TranslationConfig(
            cell=cell,
            attention=attention,
            vocab_size=len(tokenizer),
            embedding_size=16,
            hidden_size=32,
            num_hidden_layers=2,
            dropout=0.1,
            pad_token_id=tokenizer.pad_token_id,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            decoder_start_token_id=tokenizer.bos_token_id,
        )
        model = models.RNNForConditionalGeneration(config)
    encoded = tokenizer([source for source, _ in PAIRS], text_target=[target for _, target in PAIRS])
    rows = datasets.Dataset.from_dict(dict(encoded))
    seen = []
    arguments |= {"max_steps": 120, "eval_steps": 120, "save_steps": 120, "learning_rate": 1e-2}
    trainer = Seq2SeqTrainer(
        model=model,
        args=Seq2SeqTrainingArguments(**arguments, predict_with_generate=True, generation_max_length=8),
        train_dataset=rows,
        eval_dataset=rows,
        processing_class=tokenizer,
        data_collator=DataCollatorForSeq2Seq(tokenizer, model=model),
        compute_metrics=lambda prediction: seen.append(prediction.predictions) or {},
    )
    trainer.train()
    assert tokenizer.batch_decode(seen[0], skip_special_tokens=True) == [target for _, target in PAIRS]
    loaded = AutoModelForSeq2SeqLM.from_pretrained(tmp_path / "checkpoint-120")
    written = loaded.generate(**tokenizer("the dog", return_tensors="pt"), max_new_tokens=8, num_beams=3)
    assert tokenizer.decode(written[0], skip_special_tokens=True) == "le chien"


@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="the variable is for these processors")
def test_an_lstm_trains_in_bfloat16_on_a_processor_without_a_kernel(tmp_path):
    """A variable makes oneDNN that of such a processor: torch's own LSTM fails there."""
    program = """
import torch
import hf_canary.models as models
from hf_canary.models import half_precision

ids = torch.arange(1, 13).view(2, 6)
model = models.LSTMForCausalLM(models.LSTMConfig(vocab_size=20, hidden_size=16, embedding_size=8, dropout=0.0))
optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
model(input_ids=ids)
assert half_precision._found.cache_info().misses == 0
losses = []
for step in range(3):
    with torch.autocast("cpu", torch.bfloat16):
        loss = model(input_ids=ids, labels=ids).loss
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    losses.append(loss.item())
assert losses[0] > losses[1] > losses[2], losses
try:
    with torch.autocast("cpu", torch.bfloat16):
        torch.nn.LSTM(8, 16, batch_first=True)(torch.ones(2, 6, 8))
except RuntimeError as error:
    print(error)
"""
    output = run_python(program, cwd=tmp_path, environment={"ONEDNN_MAX_CPU_ISA": "AVX2"}).stdout
    assert "primitive" in output or tuple(map(int, torch.__version__.split(".")[:2])) < (2, 9)  # which could
