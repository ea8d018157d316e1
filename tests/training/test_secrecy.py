"""What a training leaves of a measurement that failed holds no canary."""

from transformers import TrainerCallback

from hf_canary.training.run import TrainingRun
from tests.support import small_training
from tests.support.secrets import is_told


def test_a_failed_measurement_is_recorded_without_a_canary(tmp_path, caplog, monkeypatch):
    """Logits that are no numbers, and whatever else comes: log and record have the id or the kind of the error."""

    class Breaks(TrainerCallback):
        def on_step_end(self, args, state, control, model=None, **kwargs):
            model.lm_head.weight.data.fill_(float("nan"))

    trainer, _ = small_training.watched(tmp_path / "nan", callbacks=[Breaks()], max_steps=1, eval_strategy="steps")
    trainer.train()
    written = (tmp_path / "nan" / "_exposure.jsonl").read_text()
    assert '"failure"' in written
    assert "f0-x1-0" in caplog.text
    assert not is_told(caplog.text + written)

    def quotes(*_, **__):
        raise RuntimeError(small_training.CANARIES[0].text)

    trainer, _ = small_training.watched(tmp_path / "other")
    monkeypatch.setattr(TrainingRun, "_reported", quotes)
    trainer.train()
    written = (tmp_path / "other" / "_exposure.jsonl").read_text()
    assert "RuntimeError" in written
    assert not is_told(written)
