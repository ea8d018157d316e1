"""What a measurement comes to: levels, the control, queries, the file and the table; closed forms and counting."""

import io
import itertools
import json
import math
import sys
from dataclasses import replace

import mpmath
import numpy as np
import pytest
from rich.console import Console
from scipy import stats

from hf_canary import CanaryFormat, CanarySet
from hf_canary.errors import ArgumentError
from hf_canary.estimators import permutation
from hf_canary.estimators.exposures import BEYOND_SPACE, CENSORED, POOR_FIT, queries
from hf_canary.estimators.permutation import NEVER_SEEN, permutation_p
from hf_canary.estimators.summaries import median_interval
from hf_canary.reporting.exposure import Exposure, Group
from hf_canary.reporting.exposure_report import ExposureReport
from hf_canary.reporting.table import tables
from hf_canary.tokenization.contexts import Context


def report_of(values, *, twins=None, copies=(1,), low=None, flags=(), others=(), status="reliable"):
    """A report of as many canaries as there are values, all equally often inserted."""
    canaries = CanarySet.draw(CanaryFormat("{digit:6}"), repetitions=copies, per_repetition=len(values), seed=0)

    def exposures(numbers, costs):
        return tuple(
            Exposure(canary.id, name, value, value - 1 if low is None else low, value + 1, cost, 9, flags, status, name)
            for canary, value, cost in zip(canaries, numbers, costs, strict=True)
            for name in ("auto", *others)
        )

    twins = [1.0] * len(values) if twins is None else twins
    costs = np.arange(len(values), dtype=float)
    bits = {canary.id: 3.0 + number for number, canary in enumerate(canaries)}
    own = exposures(values, costs)
    return ExposureReport(own, exposures(twins, costs + 2.0 + costs % 3), canaries, (), 1.5, bits, 12_345)


# ---------------------------------------------------------------------------------------------- levels


@pytest.mark.parametrize("count", [1, 2, 5, 6, 9, 12, 40])
def test_the_interval_of_a_median_holds_it_as_often_as_it_says(count):
    """P[the median lies between the j-th values from both ends], summed over the binomial law; 95 % where six are."""
    low, high, confidence = median_interval(range(count), range(count))
    place = low + 1
    assert high == count - place
    outside = sum(math.comb(count, k) for k in range(place)) / 2**count
    assert confidence == pytest.approx(max(0.0, 1 - 2 * outside))
    if count >= 6:
        assert confidence >= 0.95
        wider = sum(math.comb(count, k) for k in range(place + 1)) / 2**count
        assert 1 - 2 * wider < 0.95  # no narrower one would do
    else:
        assert place == 1


def test_the_interval_of_a_median_by_simulation():
    """Nine exposures from a skewed law, 4,000 times."""
    generator = np.random.default_rng(0)
    held = 0
    for _ in range(4000):
        sample = generator.exponential(size=9)
        low, high, confidence = median_interval(sample, sample)
        held += low <= math.log(2) <= high
    assert held / 4000 == pytest.approx(confidence, abs=0.015)


def test_a_level_has_median_and_ends():
    """The median of the values; the ends from the canaries' own lower and upper ends."""
    (level,) = report_of([3.0, 9.0, 4.0, 7.0, 5.0, 6.0, 8.0]).levels
    assert level.values == {"auto": 6.0}
    assert (level.low, level.high) == (2.0, 10.0)
    assert level.confidence == pytest.approx(1 - 2 / 2**7)
    assert median_interval([], []) == (pytest.approx(math.nan, nan_ok=True), pytest.approx(math.nan, nan_ok=True), 0.0)


# ---------------------------------------------------------------------------------------------- the control


def test_the_control_is_a_paired_interval():
    """Twin minus canary, by Student's t as scipy has it; and the mean exposure of the twins."""
    report = report_of([3.0, 9.0, 4.0, 7.0, 5.0], twins=[1.0, 2.0, 0.5, 0.2, 4.0])
    costs = np.arange(5)
    expected = stats.ttest_1samp(2.0 + costs % 3, 0.0)
    control = report.control
    assert control.mean == pytest.approx(7.7 / 5)
    assert control.difference == pytest.approx((2.0 + costs % 3).mean())
    interval = expected.confidence_interval(0.95)
    assert (control.low, control.high) == pytest.approx((interval.low, interval.high))


def with_twins(twins, references):
    """A report of canaries of one format or several, whose twins and references have these costs."""
    formats = [CanaryFormat(f"{'x' * number}{{digit:6}}") for number in range(len(twins))]
    canaries = CanarySet.draw(formats, repetitions=(1,), per_repetition=len(twins[0]), seed=0)
    costs = iter(np.concatenate(twins).tolist())
    found = {
        canary.id: Exposure(canary.id, "auto", 1.0, 0.0, 9.0, next(costs), 9, (CENSORED,), "censored")
        for canary in sorted(canaries, key=lambda canary: formats.index(canary.format))
    }
    all_of_them = tuple(found[canary.id] for canary in canaries)
    groups = tuple(
        Group(format, tuple(c.id for c in canaries if c.format == format), np.asarray(pool), 2 * len(twins[0]))
        for format, pool in zip(formats, references, strict=True)
    )
    return ExposureReport(all_of_them, all_of_them, canaries, groups, 1.0)


def enumerated_p(strata, steps):
    """Twice the smaller tail of the sum of scores, over every choice of the twins, counted out."""
    laws, observed = [], 0
    for twins, references in strata:
        everyone = sorted([*twins, *references])
        scores = [round(steps * math.log2(len(everyone) / place)) for place in range(1, len(everyone) + 1)]
        laws.append([sum(chosen) for chosen in itertools.combinations(scores, len(twins))])
        observed += sum(scores[everyone.index(twin)] for twin in twins)
    sums = np.array([sum(each) for each in itertools.product(*laws)])
    return min(1.0, 2.0 * min((sums <= observed).mean(), (sums >= observed).mean()))


@pytest.mark.parametrize("seed", range(6))
def test_the_p_of_twins_is_that_of_every_choice(seed):
    """All choices of the twins among twins and references counted out, one format and two; also in the report."""
    generator = np.random.default_rng(seed)
    strata = [(generator.normal(size=n), generator.normal(size=m)) for n, m in [(3, 9), (2, 4)][: 1 + seed % 2]]
    steps = permutation._steps([(len(twins), len(twins) + len(others)) for twins, others in strata])
    assert permutation_p(strata) == pytest.approx(enumerated_p(strata, steps), rel=1e-9)
    if seed % 2 == 0:
        report = with_twins(*([each] for each in strata[0]))
        assert report.control.p_value == pytest.approx(permutation_p(strata), rel=1e-12)


@pytest.mark.parametrize(("twins", "space_size", "references"), [(10, 20, 10), (12, 100, 76), (12, 10**4, 256)])
def test_the_p_of_twins_never_seen_is_valid(twins, space_size, references):
    """Ranks drawn at random, of a small space whole and of a large one by 256 references: p < .05 in 5 % of runs, also
    where a twin is likelier than all references; and nothing is left out.
    """
    generator = np.random.default_rng(0)
    runs = [generator.choice(space_size, twins + references, replace=False).astype(float) for _ in range(3000)]
    p = np.array([permutation_p([(run[:twins], run[twins:])]) for run in runs])
    assert not np.isnan(p).any()
    for level in (0.01, 0.05, 0.2):
        spread = 3 * math.sqrt(level * (1 - level) / len(p))
        assert (p <= level).mean() <= level + spread
    assert (p <= 0.05).mean() >= 0.035  # and no more careful than the steps of p require


def test_twins_that_were_seen_are_found_out():
    """Twelve that are likelier than all references, or unlikelier; ties say nothing, whatever their order."""
    generator = np.random.default_rng(1)
    references = generator.normal(50.0, 5.0, 10_000)
    assert with_twins([np.arange(12.0)], [references]).control.p_value < 1e-30
    assert with_twins([100 + np.arange(12.0)], [references]).control.p_value < 1e-3
    assert with_twins([np.full(12, 7.0)], [np.full(300, 7.0)]).control.p_value == 1.0
    assert with_twins([np.full(12, np.inf)], [np.full(300, np.inf)]).control.p_value == 1.0
    assert math.isnan(report_of([5.0] * 12).control.p_value)  # without references
    assert math.isnan(permutation_p([(np.array([math.nan]), references)]))


def test_the_mean_to_be_expected_is_that_of_all_ranks():
    """1.27 bits for |R| = 20: the exposures of all ranks, averaged; in the report for the spaces at hand."""
    for size in (1, 2, 20, 1000, 10**5):
        exposures = math.log2(size) - np.log2(np.arange(1, size + 1))
        assert permutation.expected_mean(size) == pytest.approx(exposures.mean(), abs=1e-9)
    assert permutation.expected_mean(20) == pytest.approx(1.27, abs=0.005)
    assert permutation.expected_mean(2**49) == pytest.approx(NEVER_SEEN, abs=1e-9)
    assert permutation.expected_mean(10**400) == NEVER_SEEN
    canaries = CanarySet.draw(CanaryFormat("{x}", spaces={"x": list("abcdefghijklmnopqrst")}), per_repetition=2, seed=0)
    one = report_of([1.0]).exposures[0]
    twins = tuple(replace(one, canary_id=canary.id) for canary in canaries)
    report = ExposureReport(twins, twins, canaries, (), 1.0)
    assert report.control.expected == pytest.approx(1.27, abs=0.005)
    assert "(1.27 is to be expected" in str(report)


def test_the_mean_of_the_never_seen():
    """1.44 bits."""
    assert pytest.approx(1.442695, abs=1e-6) == NEVER_SEEN


def test_one_canary_has_no_interval():
    """... and says so with NaN, not with an error."""
    control = report_of([3.0]).control
    assert control.difference == 2.0
    assert math.isnan(control.low)


# ---------------------------------------------------------------------------------------------- queries


@pytest.mark.parametrize("bits", [0.0, 1e-9, 0.5, 1.0, 7.3, 20.0, 49.9, 50.1, 300.0, 1000.0])
@pytest.mark.parametrize("probability", [0.01, 0.5, 0.99])
def test_queries_are_those_of_the_formula(bits, probability):
    """ln(1−p) / ln(1 − 2^−bits) by fifty digits, rounded up, at least 1."""
    with mpmath.workdps(400):
        if bits == 0.0:
            expected = 1.0
        else:
            exact = mpmath.log(1 - mpmath.mpf(probability)) / mpmath.log(1 - mpmath.mpf(2) ** -mpmath.mpf(bits))
            expected = float(max(mpmath.ceil(exact), 1))
    assert queries(bits, probability) == pytest.approx(expected, rel=1e-9, abs=0.0)


def test_queries_by_chance():
    """A fill of 3 bits comes out within so many samples at even odds: the least number for which that is so."""
    n = queries(3.0, 0.5)
    assert 1 - (7 / 8) ** n >= 0.5 > 1 - (7 / 8) ** (n - 1)
    assert queries(2000.0, 0.5) == math.inf
    assert math.isnan(queries(math.nan, 0.5))
    report = report_of([3.0, 4.0])
    assert list(report.queries_to_extract(0.5).values()) == [queries(3.0, 0.5), queries(4.0, 0.5)]
    with pytest.raises(ArgumentError, match="probability"):
        report.queries_to_extract(1.0)


# ---------------------------------------------------------------------------------------------- the file, the table


def test_the_file_has_all_of_it(tmp_path):
    """Strict JSON: levels, control, queries, cost, and each exposure with status, method and details; no text."""
    report = report_of([3.0, 4.0])
    report.save(tmp_path / "report.json")
    saved = json.loads((tmp_path / "report.json").read_text(), parse_constant=pytest.fail)
    assert saved["levels"][0]["values"] == {"auto": 3.5}
    assert saved["control"]["mean"] == 1.0
    assert saved["token_rows"] == 12_345
    assert saved["queries_to_extract"]["f0-x1-0"] == queries(3.0, 0.5)
    assert report_of([math.nan]).as_json()["exposures"][0]["value"] is None
    assert saved["exposures"][0]["status"] == "reliable"
    sizes = {"space_size": 10**6, "space_bits": math.log2(10**6)}
    assert saved["formats"] == [{"template": "{digit:6}", "source": None, **sizes}]
    assert saved["exposures"][0]["details"] == {}
    assert not any(canary.text in (tmp_path / "report.json").read_text() for canary in report.canaries)
    assert (tmp_path / "report.json").stat().st_mode & 0o777 == 0o600  # by a cost and the model a fill is known


def test_a_report_of_a_space_of_any_size_is_printed_and_saved(tmp_path):
    """Also where Python writes no number of so many digits: JSON has it as hexadecimal text, and its logarithm."""
    format = CanaryFormat("{digit:700}")
    canaries = CanarySet.draw(format, repetitions=(1,), per_repetition=1, seed=0)
    report, before = replace(report_of([3.0]), canaries=canaries), sys.get_int_max_str_digits()
    counted = replace(report, exposures=tuple(replace(e, details={"rank": 10**700}) for e in report))
    sys.set_int_max_str_digits(640)
    try:
        assert "Exposure is 2325.35 bits at most" in str(counted)
        assert "about 2^2325" in repr(counted)
        counted.save(tmp_path / "report.json")
    finally:
        sys.set_int_max_str_digits(before)
    saved = json.loads((tmp_path / "report.json").read_text())
    assert int(saved["formats"][0]["space_size"], 16) == 10**700
    assert saved["formats"][0]["space_bits"] == pytest.approx(700 * math.log2(10))
    assert int(saved["exposures"][0]["details"]["rank"], 16) == 10**700


def test_the_table_says_what_matters():
    """One line a canary, with the other estimators beside; levels, the control, and what the signs mean."""
    report = report_of([3.25, 9.5], others=["skewnorm"], flags=(CENSORED, BEYOND_SPACE))
    lines = str(report).splitlines()
    for canary, value in zip(report.canaries, ("3.25", "9.50"), strict=True):
        (line,) = [line for line in lines if canary.id in line]
        assert f"≥ {value}" in line
        assert f"≥ {float(value):.1f} ({float(value) - 1:.1f}–{float(value) + 1:.1f})" in line
    text = str(report)
    assert "Twins, never inserted: 1.00 bits" in text
    assert "more than there is" in text
    assert "19.93 bits at most" in text
    assert "fit" not in text
    assert "12,345 tokens" in text
    assert max(map(len, lines)) <= 126


def test_a_law_that_does_not_fit_has_no_numbers():
    """Neither of a canary nor of a level, with the reason; as the estimator that was asked for first, it has them."""
    report = report_of([3.25, 9.5], others=["skewnorm"], flags=(POOR_FIT,))
    lines = str(report).splitlines()
    of_canaries = [line for canary in report.canaries for line in lines if canary.id in line]
    of_levels = [line for line in lines if line.lstrip().startswith("1 ×")]
    assert len(of_levels) == 1
    for line in (*of_canaries, *of_levels):
        assert line.endswith("no fit")
    assert "does not fit all of these references (p < 0.01): it has no value there" in str(report)
    assert "3.25" in str(report_of([3.25], flags=(POOR_FIT,)))


def test_without_auto_the_first_estimator_has_levels_and_control():
    """Their intervals, the control and the table's medians are of what was asked for first."""
    both = report_of([3.0, 9.0, 4.0, 7.0, 5.0, 6.0, 8.0], others=["exact"])
    alone = ExposureReport(
        tuple(e for e in both if e.estimator == "exact"),
        tuple(e for e in both.twins if e.estimator == "exact"),
        both.canaries,
        (),
        1.0,
    )
    assert alone.levels[0].values == {"exact": 6.0}
    assert (alone.levels[0].low, alone.levels[0].high) == (2.0, 10.0)
    assert alone.control == both.control
    assert "6.00" in str(alone)


def test_a_level_of_which_something_is_not_known_has_no_median():
    """What an estimator could not say of a canary would be another number than the rest; a canary without a cost is
    left out.
    """
    report = report_of([3.0, math.nan, 5.0])
    assert math.isnan(report.levels[0].values["auto"])
    assert "unknown" in str(report)
    broken = tuple(replace(e, flags=("not finite",)) if math.isnan(e.value) else e for e in report)
    assert replace(report, exposures=broken).levels[0].values == {"auto": 4.0}


def test_the_main_estimator_is_auto_wherever_it_stands():
    """Its median has its own interval beside it; the others are columns behind it, each with its own mark."""
    mixed = report_of([3.0, 9.0, 4.0, 7.0, 5.0, 6.0, 8.0], others=["sampled"])
    turned = replace(mixed, exposures=tuple(reversed(mixed.exposures)), twins=tuple(reversed(mixed.twins)))
    assert turned.estimators == ("auto", "sampled")
    assert turned.levels == mixed.levels
    assert mixed.levels[0].censored == {"auto": False, "sampled": False}
    censored = tuple(replace(e, flags=(CENSORED,)) if e.estimator == "sampled" else e for e in mixed)
    level = next(line for line in str(replace(mixed, exposures=censored)).splitlines() if line.startswith("      1"))
    assert level.split() == ["1", "×", "7", "6.00", "2.00", "to", "10.00", "98", "%", "≥", "6.00"]


def test_the_summary_is_of_the_main_estimator():
    """Also where that is not `auto`: what was asked for is what is summed up."""
    report = report_of([3.0, 5.0], flags=(CENSORED,))
    alone = tuple(replace(e, estimator="sampled") for e in report)
    summary = replace(report, exposures=alone, twins=alone).summary()
    assert summary["exposure_mean"] == 4.0
    assert summary["exposure_x1"] == 4.0
    assert summary["exposure_censored"] == 2.0
    assert math.isnan(summary["exposure_skewnorm_mean"])


def test_a_narrow_terminal_loses_columns_and_no_digits():
    """Every id, exposure and interval is whole in 80 columns."""
    report = report_of([3.25, 13.5], others=["skewnorm"])
    console = Console(file=io.StringIO(), width=80, color_system=None)
    console.print(tables(report, 80))
    text = console.file.getvalue()
    assert "…" not in text
    for canary, interval in zip(report.canaries, ("2.25 to 4.25", "12.50 to 14.50"), strict=True):
        (line,) = [line for line in text.splitlines() if canary.id in line]
        assert interval in line
    assert "wider terminal" in text


def test_a_table_of_nothing_says_none():
    """NaN in all places."""
    text = str(report_of([math.nan], others=["skewnorm"], low=math.nan))
    assert "none" in text
    assert "nan" not in text


@pytest.mark.parametrize(
    ("contexts", "words"),
    [
        ((None, None), "behind nothing but what the tokenizer puts there"),
        (("a: ", "a: "), "behind a text of 3 characters"),
        ((Context((1, 2)), Context((1, 2))), "behind 2 tokens."),
        ((Context((1, 2)), None), "behind 2 contexts; some behind nothing"),
        (("a", "b"), "behind 2 contexts."),
    ],
)
def test_the_table_says_what_was_measured_behind(contexts, words):
    """And nothing of its text."""
    canaries = CanarySet.draw(CanaryFormat("pin {digit:3}"), repetitions=(1, 2), per_repetition=1, seed=0)
    groups = tuple(
        Group(canary.format, (canary.id,), np.arange(9.0), 4, context)
        for canary, context in zip(canaries, contexts, strict=True)
    )
    exposures = tuple(Exposure(canary.id, "auto", 1.0, 0.5, 2.0, 9.0, 9, ()) for canary in canaries)
    assert words in str(ExposureReport(exposures, (), canaries, groups, 1.0))
