"""What is public of a training and what is not: rounded sums, a fingerprint, and a private record."""

import math
from dataclasses import replace

import numpy as np
import pytest

from hf_canary import CanaryFormat, CanarySet
from hf_canary.errors import ArgumentError, DataError
from hf_canary.estimators.exposures import CENSORED, POOR_FIT
from hf_canary.reporting.exposure import Exposure, Group
from hf_canary.reporting.exposure_report import ExposureReport
from hf_canary.training.fingerprints import FINGERPRINT_FILE, fingerprint_in, fingerprint_of, leave_fingerprint
from hf_canary.training.line import one_line
from hf_canary.training.public import base_mean, public_keys, public_levels, public_summary
from tests.support.small_training import CANARIES, FORMAT


def report_of(values, repetitions, *, kind="drawn", flags=(), copies=None, skewnorm_flags=()):
    """Of canaries with these exposures, so many of each level in order, half a bit known in either direction."""
    drawn = CanarySet.draw(FORMAT, repetitions=sorted(set(repetitions)), per_repetition=1, seed=0)
    pool = CanarySet.draw(FORMAT, repetitions=(1,), per_repetition=len(values), seed=0)
    canaries = tuple(replace(canary, repetitions=copies) for canary, copies in zip(pool, repetitions, strict=True))
    canary_set = CanarySet(canaries, 2**100 if kind == "natural" else drawn.seed, kind)
    found = tuple(
        Exposure(canary.id, name, value, value - 0.5, value + 0.5, 9.0, 9, extra)
        for canary, value in zip(canaries, values, strict=True)
        for name, extra in (("auto", flags), ("skewnorm", skewnorm_flags))
    )
    group = Group(FORMAT, tuple(canary.id for canary in canaries), LETTER_COSTS, 2 * len(values))
    said = {canary.id: {"copies_found": count} for canary, count in zip(canaries, copies or (), strict=False)}
    return ExposureReport(found, found, canary_set, (group,), 1.0, copies=said)


LETTER_COSTS = np.arange(50.0)


def test_what_is_logged_is_rounded_outwards():
    """Values to the nearest tenth, ends away from them; a bound is never printed higher than it is."""
    summary = public_summary(report_of([9.768, 3.04, 3.06, 3.33], [4, 1, 1, 1]))
    assert summary["exposure_x4"] == 9.8
    assert (summary["exposure_x4_low"], summary["exposure_x4_high"]) == (9.2, 10.3)
    assert (summary["exposure_x1_low"], summary["exposure_x1_high"]) == (2.5, 3.6)  # medians of the canaries' own
    assert summary["exposure_x1"] == 3.1
    assert summary["exposure_max_low"] == 9.2
    assert list(summary) == public_keys(report_of([1.0, 2.0], [1, 4]).canaries)
    line = one_line(report_of([9.768, 3.0], [4, 1], flags=(CENSORED,)))
    assert "×4 ≥ 9.7" in line
    assert "×1 ≥ 3.0" in line


def test_a_law_that_does_not_fit_is_no_number():
    """NaN in the log, a dash in the line; the record keeps it, with its flag."""
    report = report_of([9.0, 3.0], [4, 1], skewnorm_flags=(POOR_FIT,))
    summary = public_summary(report)
    assert math.isnan(summary["exposure_skewnorm_x4"])
    assert math.isnan(summary["exposure_skewnorm_mean"])
    assert "skew-normal  ×1 –  ×4 –" in one_line(report)
    assert {tuple(line["flags"]) for line in report.records() if line["estimator"] == "skewnorm"} == {(POOR_FIT,)}
    assert public_summary(report_of([9.0, 3.0], [4, 1]))["exposure_skewnorm_x4"] == 9.0


def test_a_level_that_lacks_copies_says_so():
    """In the line and in the table; one that has them does not."""
    report = report_of([9.0, 8.0, 3.0], [4, 4, 1], copies=(2, 3, 1))
    assert "×4 (2 to 3 found) 8.5" in one_line(report)
    assert "4 × (2 to 3 found)" in str(report)
    assert "×1 3.0" in one_line(report)


def test_a_measurement_cut_short_says_so_with_several_formats():
    """Of each format its own canaries are no references: with all of a small one scored, another may be cut short."""
    report = report_of([9.0, 3.0], [4, 1])
    assert "in time for" in one_line(report, num_references=60)  # 50 of 60
    small, large = CanaryFormat("pin {digit:2}"), FORMAT
    groups = (
        Group(small, ("a",), LETTER_COSTS[:40], 60),  # all of them: a hundred fills, sixty known
        Group(large, ("b",), LETTER_COSTS, 60),
    )
    assert "in time for 40" not in one_line(replace(report, groups=groups[:1]), num_references=60)
    assert "in time for" in one_line(replace(report, groups=groups), num_references=60)
    assert "in time for" not in one_line(replace(report, groups=groups), num_references=50)


@pytest.mark.parametrize(
    ("repetitions", "pooled"),
    [
        ([1] * 4 + [2] * 5, {"x1": (1,), "x2": (2,)}),
        ([1] * 4 + [2], {"x1to2": (1, 2)}),
        ([1, 2, 3, 4, 5], {"x1to5": (1, 2, 3, 4, 5)}),
        ([1, 1, 2, 2, 3, 3, 3, 3], {"x1to2": (1, 2), "x3": (3,)}),
        ([1, 2], {}),
    ],
)
def test_natural_secrets_are_pooled(repetitions, pooled):
    """Never fewer than four in one number, and no maximum; of drawn canaries each level is its own."""
    report = report_of([float(n) for n in range(len(repetitions))], repetitions, kind="natural")
    assert public_levels(report.canaries) == pooled
    keys = public_keys(report.canaries)
    assert not any("max" in key for key in keys)
    assert ("exposure_mean" in keys) == (len(repetitions) >= 4)
    for name, levels in pooled.items():
        values = sorted(n for n, copies in enumerate(repetitions) if copies in levels)
        assert len(values) >= 4
        middle = (values[(len(values) - 1) // 2] + values[len(values) // 2]) / 2
        assert public_summary(report)[f"exposure_{name}"] == round(middle, 1)
        assert f"×{name[1:]} " in one_line(report)
        assert "found" not in one_line(
            replace(report, copies={c.id: {"copies_found": c.repetitions} for c in report.canaries})
        )
    drawn = report_of([1.0] * len(repetitions), repetitions)
    assert set(public_levels(drawn.canaries)) == {f"x{copies}" for copies in repetitions}


def test_natural_secrets_that_were_not_trained_on_do_not_count():
    """What is left of a level is pooled no more: four of whom three are dead are one secret, and nothing is said."""
    report = report_of([1.0, 2.0, 3.0, 19.9], [1] * 4, kind="natural")
    dead = {canary.id: "missing" for canary in report.canaries.canaries[:3]}
    assert public_summary(report)["exposure_x1"] == 2.5
    summary = public_summary(replace(report, dead=dead))
    assert all(math.isnan(summary[key]) for key in summary if ("mean" in key and "twin" not in key) or "x1" in key)
    assert math.isnan(base_mean(3.0, report.canaries, live=3))
    assert base_mean(3.04, report.canaries, live=4) == 3.0
    assert base_mean(3.04, CANARIES, live=1) == 3.0
    with pytest.raises(ArgumentError, match="seed"):
        CanarySet(report.canaries.canaries, 7, "natural")


def test_fingerprints_that_are_none(tmp_path):
    """Nothing where there is none; another file of that name is refused."""
    assert fingerprint_of(str(tmp_path)) is None
    leave_fingerprint(tmp_path, CANARIES)
    assert fingerprint_of(str(tmp_path)) == CANARIES.fingerprint
    assert fingerprint_of("./no such folder") is None
    for wrong in ("{", "[]", '{"version": 7, "canaries": "x"}', '{"version": 1, "canaries": 3}'):
        (tmp_path / FINGERPRINT_FILE).write_text(wrong)
        with pytest.raises(DataError, match=FINGERPRINT_FILE):
            fingerprint_in(tmp_path / FINGERPRINT_FILE)
