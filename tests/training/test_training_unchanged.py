"""Training does not notice that it is looked at: the same bits, whatever it does and whenever it is looked at."""

import copy
import functools
import math
import tempfile

import numpy as np
import pytest
import torch
from datasets import Dataset
from transformers import TrainerCallback

from tests.support import oracles
from tests.support.small_training import LETTERS, entries, make_trainer, rows, watched

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning")

# (what the training does, when it is looked at)
EVERY_STEP = {"measure_at": 1}
NEVER_EVALUATED = {"eval_strategy": "no"}
EACH_1 = {"eval_strategy": "steps", "eval_steps": 1}
EACH_7 = {"eval_strategy": "steps", "eval_steps": 7}
DROPOUT = {"dropout": 0.3}
CONFIGURATIONS = {
    "plain": ({}, {}),
    "dropout": (DROPOUT, {}),
    "dropout, each step": (DROPOUT, EVERY_STEP),
    "dropout, each epoch": (DROPOUT | NEVER_EVALUATED, {}),
    "dropout, no evaluation, each step": (DROPOUT | NEVER_EVALUATED, EVERY_STEP),
    "dropout, chosen steps": (DROPOUT | NEVER_EVALUATED, {"measure_at": [0, 3, 4, 7]}),
    "evaluated each step": (DROPOUT | EACH_1, {}),
    "evaluated each 7": (DROPOUT | EACH_7, {}),
    "evaluated each 7, measured at each 2": (DROPOUT | EACH_7, {"measure_at": 2}),
    "evaluated at the start": (DROPOUT | {"eval_on_start": True}, {}),
    "not shuffled": (DROPOUT | {"train_sampling_strategy": "sequential"}, EVERY_STEP),
    "accumulation": (DROPOUT | {"gradient_accumulation_steps": 2}, EVERY_STEP),
    "accumulation, evaluated each step": (DROPOUT | EACH_1 | {"gradient_accumulation_steps": 3}, {}),
    "workers": (DROPOUT | {"dataloader_num_workers": 2}, EVERY_STEP),
    "a worker, evaluated each 7": (DROPOUT | EACH_7 | {"dataloader_num_workers": 1}, {}),
    "last batch dropped": (DROPOUT | {"dataloader_drop_last": True}, EVERY_STEP),
    "SGD": (DROPOUT | {"optim": "sgd"}, EVERY_STEP),
    "Adafactor": (DROPOUT | {"optim": "adafactor"}, EVERY_STEP),
    "RMSprop": (DROPOUT | {"optim": "rmsprop"}, {}),
    "bfloat16": (DROPOUT | {"bf16": True}, EVERY_STEP),
    "bfloat16, SGD, evaluated each 7": (DROPOUT | EACH_7 | {"bf16": True, "optim": "sgd"}, {}),
    "bfloat16, accumulation": (DROPOUT | {"bf16": True, "gradient_accumulation_steps": 2}, EVERY_STEP),
    "no clipping": (DROPOUT | {"max_grad_norm": 0.0}, EVERY_STEP),
    "weight decay and cosine": (DROPOUT | {"weight_decay": 0.1, "lr_scheduler_type": "cosine"}, EVERY_STEP),
    "stopped at a step": (DROPOUT | {"max_steps": 11}, EVERY_STEP),
    "logged each step": (DROPOUT | {"logging_steps": 1}, EVERY_STEP),
    "saved each step": (DROPOUT | {"save_strategy": "steps", "save_steps": 1, "save_total_limit": 1}, EVERY_STEP),
    "of a chosen size": (DROPOUT, {"measure_at": [4], "num_references": None}),
    "hurried": (DROPOUT, {"measure_at": 1, "max_seconds": 0.01}),
    "threshold": (
        DROPOUT,
        {"measure_at": 1, "threshold": 0.001, "on_exceed": lambda report, ids: torch.randn(3).sum() > 99},
    ),
    "without the check": (DROPOUT, {"measure_at": 1, "presence": False}),
    "gpt2": ({"kind": "gpt2"}, EVERY_STEP),
    "gpt2, gradient checkpointing": ({"kind": "gpt2", "gradient_checkpointing": True}, EVERY_STEP),
    "llama, bfloat16": ({"kind": "llama", "bf16": True}, EVERY_STEP),
    "gpt2, stream": ({"kind": "gpt2", "data": "stream", "max_steps": 9}, EVERY_STEP),
}


class Seen(TrainerCallback):
    """Everything of a training that must not change: batches, losses, and at each step the random states."""

    def __init__(self):
        self.batches, self.states = [], []

    def on_step_end(self, args, state, control, **kwargs):
        self.states.append((torch.random.get_rng_state().sum().item(), np.random.get_state()[2]))


@functools.cache
def trained_alone(arguments):
    """A training that nobody looks at, once for all configurations that train alike; by the `repr` of its arguments."""
    name = next(name for name, (each, _) in CONFIGURATIONS.items() if repr(each) == arguments)
    with tempfile.TemporaryDirectory() as folder:
        return trained(folder, name)


def trained(folder, name, *, bound=None):
    arguments, options = CONFIGURATIONS[name]
    arguments = {"num_train_epochs": 1, **arguments}
    kind, data = arguments.pop("kind", None), arguments.pop("data", None)
    if kind:
        arguments["model"] = functools.partial(oracles.small_model, kind, len(LETTERS))
    if data:
        arguments["data"] = Dataset.from_list(list(rows())).to_iterable_dataset(num_shards=2)
    if bound is None:
        trainer = make_trainer(folder, **arguments)
    else:
        trainer, _ = watched(folder, bound=bound, options=options, **arguments)
    seen, step = Seen(), trainer.training_step

    def training_step(model, inputs, *args, **kwargs):
        seen.batches.append(inputs["input_ids"].tolist())
        return step(model, inputs, *args, **kwargs)

    trainer.training_step = training_step
    trainer.add_callback(seen)
    trainer.train()
    return trainer, seen


def same(one, other):
    """Bit for bit, NaN too."""
    if isinstance(one, torch.Tensor):
        return one.dtype == other.dtype and torch.equal(
            one.view(-1).view(torch.uint8), other.view(-1).view(torch.uint8)
        )
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[name], other[name]) for name in one)
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(same, one, other))
    return one == other


@pytest.mark.parametrize(("number", "name"), list(enumerate(CONFIGURATIONS)))
def test_training_is_bitwise_the_same_with_and_without(tmp_path, number, name):
    """Weights, buffers, the optimiser's state, losses, gradients' norms, the order of rows, random states; every other
    configuration with the callback bound to the trainer.
    """
    plain, before = trained_alone(repr(CONFIGURATIONS[name][0]))
    watched_one, after = trained(tmp_path, name, bound=bool(number % 2))
    assert same(plain.model.state_dict(), watched_one.model.state_dict())
    assert same(plain.optimizer.state_dict(), watched_one.optimizer.state_dict())
    assert before.batches == after.batches
    assert before.states == after.states
    for key in ("loss", "eval_loss", "grad_norm", "learning_rate"):
        losses = [[e[key] for e in t.state.log_history if key in e] for t in (plain, watched_one)]
        assert losses[0] == losses[1]
    assert any("eval_exposure_mean" in entry for entry in watched_one.state.log_history)


def test_the_comparison_can_fail(tmp_path, monkeypatch):
    """Where a measurement draws from torch's random state and nobody puts it back, dropout differs."""
    from contextlib import nullcontext

    from hf_canary import ExposureCallback
    from hf_canary.training import run

    monkeypatch.setattr(run, "preserve_training_state", lambda model: nullcontext())
    monkeypatch.setattr(ExposureCallback, "show", lambda *_: torch.randn(3))
    plain, before = trained(tmp_path / "a", "dropout, each step")
    disturbed, after = trained(tmp_path / "b", "dropout, each step", bound=False)
    assert not same(plain.model.state_dict(), disturbed.model.state_dict())
    assert before.states != after.states


def test_nothing_of_the_model_is_left_changed(tmp_path, monkeypatch):
    """Modes, hooks, gradients wanted, config and buffers, also when the measurement fails in the middle of a forward
    pass.
    """

    def picture(model):
        hooks = [len(m._forward_hooks) + len(m._forward_pre_hooks) + len(m._backward_hooks) for m in model.modules()]
        own = [{name for name in vars(module) if "forward" in name} for module in model.modules()]
        return (
            [module.training for module in model.modules()],
            [p.requires_grad for p in model.parameters()],
            [p.grad is None for p in model.parameters()],
            hooks,
            own,
            copy.deepcopy(model.config.to_dict()),
            [buffer.clone() for buffer in model.buffers()],
        )

    model = oracles.small_model("gpt2", len(LETTERS))
    model.transformer.h[0].eval()  # one part in another mode than the rest, and one that is not trained
    model.transformer.wte.weight.requires_grad_(False)
    pictures = []

    class Around(TrainerCallback):
        def on_step_end(self, args, state, control, model=None, **kwargs):
            pictures.append(picture(model))
            passes[0] = 0

    passes, forward = [0], type(model).forward

    @functools.wraps(forward)
    def failing(self, *args, **kwargs):
        passes[0] += not self.training
        if not self.training and passes[0] > 4 and pictures:
            raise RuntimeError("in the middle")
        return forward(self, *args, **kwargs)

    trainer, callback = watched(tmp_path, model=lambda: model, options={"measure_at": 1}, eval_strategy="no")
    trainer.callback_handler.callbacks.insert(-1, Around())
    trainer.add_callback(Around())
    monkeypatch.setattr(type(model), "forward", failing)
    trainer.train()
    assert callback.report is None
    assert any(math.isnan(entry["eval_exposure_mean"]) for entry in entries(trainer))
    assert len(pictures) == 2 * trainer.state.global_step
    for before, after in zip(pictures[::2], pictures[1::2], strict=True):
        assert same(before, after)
