"""What a trainer says of itself at an event, and what it does not say."""

from types import SimpleNamespace

import pytest
from transformers import TrainerControl, TrainerState, TrainingArguments

from hf_canary.training.moment import Moment, trainer_of


def moment(state):
    args = TrainingArguments("out", use_cpu=True, report_to="none")
    return Moment.of_event(args, state, TrainerControl(), {"model": None})


def test_a_trial_by_its_name_where_no_trainer_calls():
    """The name that the search gave it, as far as there is one; outside of a search there is no trial."""
    assert trainer_of(TrainerState()) is None
    named = TrainerState(is_hyper_param_search=True, trial_name="first")
    assert moment(named).trial == "first"
    assert moment(named).record.file.name == "_exposure.first.jsonl"
    assert moment(TrainerState(is_hyper_param_search=True)).trial is None
    assert moment(TrainerState(trial_name="first")).trial is None


def test_hyperparameters_as_json_has_them():
    """What it does not have is written as it is shown."""
    params = {"rate": 0.1, "size": 3, "kind": "a", "none": None, "flag": True, "much": float("inf"), "what": [object]}
    found = moment(TrainerState(trial_params=params)).hyperparameters
    assert found == params | {"much": "inf", "what": repr([object])}
    assert moment(TrainerState()).hyperparameters == {}


@pytest.mark.parametrize(
    "kept", [None, [], 3, {"attributes": {}}, {"attributes": {"training": 7}}, {"attributes": None}]
)
def test_a_training_is_known_by_its_checkpoint(kept):
    """Where the state has a name; a training that begins has none, whatever stands there."""
    state = TrainerState(global_step=4)
    moment(state).keep_name("one")
    assert moment(state).begun_as == "one"
    again = TrainerState(global_step=4, stateful_callbacks=dict(state.stateful_callbacks))
    assert moment(again).begun_as == "one"
    again.global_step = 0
    assert moment(again).begun_as is None
    again = TrainerState(global_step=4, stateful_callbacks={"hf_canary": kept})
    assert moment(again).begun_as is None
    assert moment(SimpleNamespace(global_step=4, stateful_callbacks={})).begun_as is None
