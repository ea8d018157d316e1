"""Run by test_training_together.py in two processes at once: what each of them sees of trainings."""

import functools
import json
import sys
from pathlib import Path

import torch
from torch.distributed.fsdp import fully_shard
from transformers import TrainerControl, TrainerState, TrainingArguments

from hf_canary import CanarySet, ExposureCallback, measure
from hf_canary.training import run
from tests.support import oracles
from tests.support.small_training import CANARIES, FORMAT, LETTERS, entries, watched

ARGUMENTS = {"ddp_backend": "gloo", "per_device_train_batch_size": 2}


def main(out: Path) -> None:
    found = {"bound": trained(out / "bound", bound=True), "unbound": trained(out / "unbound", bound=False)}
    rank = torch.distributed.get_rank()
    found["two sets"] = refused(out / "two sets", rank)
    found["failing"] = failing(out / "failing", rank)
    found["one says stop"] = stopped(out / "stopped", rank)
    found["slow"] = slow(out / "slow", rank)
    found["sharded"] = sharded(out / "sharded", rank)
    (out / f"found-{rank}").write_text(json.dumps(found), encoding="utf-8")


def trained(folder, *, bound):
    trainer, callback = watched(
        folder,
        bound=bound,
        options={"measure_at": 4, "num_references": 61},
        eval_strategy="steps",
        eval_steps=3,
        **ARGUMENTS,
    )
    trainer.train()
    assert type(trainer.model_wrapped).__name__ == "DistributedDataParallel"
    trainer.save_model(str(folder / "model"))
    kept = [{name: value for name, value in e.items() if told(name) or name == "step"} for e in entries(trainer)]
    return [kept, {name: each["copies_trained"] for name, each in callback.report.copies.items()}]


def told(name):
    return "exposure_" in name and not name.endswith("seconds")


def refused(folder, rank):
    """Other canaries in one of the processes."""
    trainer, _ = watched(folder, **ARGUMENTS)
    trainer.pop_callback(ExposureCallback)
    canaries = CanarySet.draw(FORMAT, repetitions=(1, 2), per_repetition=2, seed=rank)
    trainer.add_callback(ExposureCallback(canaries))
    try:
        trainer.train()
    except Exception as error:
        return [type(error).__name__, error.argument, trainer.state.global_step]


def failing(folder, rank):
    """The first measurement fails in one of the processes, when it has measured."""
    trainer, _ = watched(folder, **ARGUMENTS)
    original, measurements = measure.Measurement.measure, [0]

    def fails(*args, **kwargs):
        report = original(*args, **kwargs)
        measurements[0] += 1
        if rank == 1 and measurements[0] == 1:
            raise RuntimeError("here alone")
        return report

    measure.Measurement.measure = fails
    try:
        trainer.train()
    finally:
        measure.Measurement.measure = original
    return [str(entry["eval_exposure_mean"]) for entry in entries(trainer)]


def stopped(folder, rank):
    """One process's function says that it is enough."""
    options = {"measure_at": 2, "threshold": 0.001, "on_exceed": lambda *_: rank == 1}
    trainer, callback = watched(folder, options=options, eval_strategy="no", **ARGUMENTS)
    trainer.train()
    return [trainer.state.global_step, sum(each.at_least >= 0.001 for each in callback.report)]


def slow(folder, rank):
    """Each process has its own clock, and one takes its time; they choose alike how large measurements are."""
    options = {"measure_at": 4, "num_references": None, "max_seconds": 20.0 + 300.0 * rank}
    trainer, callback = watched(folder, options=options, eval_strategy="no", **ARGUMENTS)
    foreseen, slower = run.foreseen, 1.0 + 1e6 * rank
    run.foreseen = lambda *given: ({size: slower * size * 1e-6 for size in foreseen(*given)[0]}, 10.0)
    try:
        trainer.train()
    finally:
        run.foreseen = foreseen
    return [callback.num_references, [entry["step"] for entry in entries(trainer)]]


def sharded(folder, rank):
    """FSDP, whose weights each process has a part of; without a Trainer, which refuses processors for it."""
    model = oracles.small_model("gpt2", len(LETTERS))
    callback = ExposureCallback(CANARIES, num_references=61, presence=False, batch_size=5 + rank)
    for layer in model.transformer.h:
        fully_shard(layer)
    fully_shard(model)
    arguments = TrainingArguments(output_dir=str(folder), use_cpu=True, eval_strategy="epoch", report_to="none")
    state = TrainerState(is_local_process_zero=rank == 0, is_world_process_zero=rank == 0)
    events = functools.partial(dict, model=model, processing_class=LETTERS)
    callback.on_train_begin(arguments, state, TrainerControl(), **events())
    state.global_step, state.epoch = 5, 1.0
    metrics = {"eval_runtime": 1.0}
    callback.on_evaluate(arguments, state, TrainerControl(), metrics=metrics, **events())
    return {name: value for name, value in metrics.items() if told(name)}


if __name__ == "__main__":
    main(Path(sys.argv[1]))
