"""Injection in several workers and processes at once: the rows are those of one."""

import pytest
from torch.utils.data import DataLoader

from hf_canary import CanaryFormat, CanarySet, InjectCanaries
from tests.support.rows import ROWS, multiset, numbered, texts


def a_set() -> CanarySet:
    return CanarySet.draw(CanaryFormat("the canary's PIN is {digit:4}"), repetitions=(1, 3), per_repetition=2, seed=0)


# Since Python 3.12 a fork of a process with threads warns; datasets forks its workers, and torch has threads.
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
@pytest.mark.parametrize("num_proc", [1, 2, 4])
def test_the_number_of_processes_changes_nothing(num_proc):
    """Workers give the rows that one process gives."""
    dataset, canaries = numbered(9), a_set()
    transform = InjectCanaries(canaries, num_rows=len(dataset))
    mapped = dataset.map(transform, batched=True, with_indices=True, batch_size=2, num_proc=num_proc)
    assert mapped.to_list() == canaries.inject(dataset).to_list()


@pytest.mark.parametrize("workers", [0, 2, 4])
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning", "ignore:This DataLoader will create")
def test_workers_share_the_copies(workers):
    """However many read a stream, each copy comes once."""
    canaries, dataset = a_set(), texts()
    stream = canaries.inject(dataset.to_iterable_dataset(num_shards=4), num_rows=ROWS)
    rows = list(DataLoader(stream, batch_size=None, num_workers=workers, collate_fn=lambda row: row))
    assert multiset(rows) == multiset(canaries.inject(dataset).to_list())
