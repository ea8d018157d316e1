"""The pictures: whole PNG files or none, no state of matplotlib touched, whatever a record holds."""

import math
import sys

import matplotlib
import matplotlib._pylab_helpers
import matplotlib.figure
import matplotlib.text
import numpy as np
import pytest
from matplotlib.image import imread

from hf_canary import CanaryFormat, CanarySet
from hf_canary.errors import DataError
from hf_canary.estimators.exposures import CENSORED, CONDITIONAL, NOT_FINITE, NOT_FITTED
from hf_canary.reporting.exposure import Exposure, Group
from hf_canary.reporting.exposure_report import ExposureReport
from hf_canary.reporting.plots import (
    check_matplotlib,
    exposure_against_repetitions,
    exposure_over_training,
    reference_histogram,
)

PIN = CanaryFormat("my pin is {digit:6}")
KEY = CanaryFormat("key {hex:8}")
NAN = math.nan


def exposure(name, estimator="auto", value=5.0, low=4.0, high=6.0, cost=40.0, flags=()):
    return Exposure(name, estimator, value, low, high, cost, 500, flags)


def report_of(of_canary, of_twin=None, references=None, formats=PIN):
    """A report made by hand: for each canary and twin what these functions give, for each format these references."""
    canaries = CanarySet.draw(formats, repetitions=(1, 4, 16), per_repetition=2, seed=0)
    usual = np.random.default_rng(0).normal(50, 4, 500)
    return ExposureReport(
        exposures=tuple(each for canary in canaries for each in of_canary(canary)),
        twins=tuple(each for canary in canaries for each in (of_twin or of_canary)(canary)),
        canaries=canaries,
        groups=tuple(
            Group(
                format,
                tuple(c.id for c in canaries if c.format == format),
                usual if references is None else references,
                12,
            )
            for format in canaries.formats
        ),
        seconds=1.0,
    )


def usual(canary):
    auto = exposure(canary.id, value=2.0 + canary.repetitions, low=1.0, high=19.0, cost=50.0 - canary.repetitions)
    return auto, exposure(canary.id, "skewnorm", 9.0, 8.0, 10.0, flags=(CONDITIONAL,))


def censored(canary):
    return (exposure(canary.id, value=9.0, low=7.1, high=math.log2(10**6), cost=10.0, flags=(CENSORED,)),)


def nothing(canary):
    not_finite = exposure(canary.id, value=NAN, low=NAN, high=NAN, cost=NAN, flags=(NOT_FINITE,))
    not_fitted = exposure(canary.id, "skewnorm", NAN, NAN, NAN, NAN, (f"{NOT_FITTED}: 3 references",))
    return not_finite, not_fitted


def mixed(canary):
    return {1: usual, 4: nothing, 16: censored}[canary.repetitions](canary)


def beyond(canary):
    """A skew-normal estimate far past log2|R|, beside the censored one."""
    return (*censored(canary), exposure(canary.id, "skewnorm", 190.0, 150.0, 230.0, flags=(CONDITIONAL,)))


def certain(canary):
    """Exposures without width, as where all of R was scored."""
    return (exposure(canary.id, value=0.0, low=0.0, high=0.0),)


def over_training(*reports):
    """What the callback records of these measurements; None is one that failed."""
    records = []
    for number, report in enumerate(reports):
        when = {"step": 10 * number, "epoch": 0.5 * number}
        lines = [{"role": "failure", "error": "no numbers"}] if report is None else report.records()
        records += [when | line for line in lines]
    return records


DRAWINGS = {
    "over training": lambda file: exposure_over_training(
        over_training(report_of(usual), report_of(mixed)), 10**6, file
    ),
    "against repetitions": lambda file: exposure_against_repetitions(report_of(usual), 10**6, file),
    "histogram": lambda file: reference_histogram(report_of(usual), PIN, file),
}

each_drawing = pytest.mark.parametrize("draw", DRAWINGS.values(), ids=DRAWINGS)


@pytest.fixture
def figures(monkeypatch):
    """The figures that were saved, kept; drawn as for a file, but quickly."""
    kept = []

    def savefig(figure, file, **options):
        figure.draw_without_rendering()
        file.write_bytes(b"a picture")
        kept.append(figure)

    monkeypatch.setattr(matplotlib.figure.Figure, "savefig", savefig)
    return kept


def all_settings():
    """Those of matplotlib but the backend, which being read would choose one and import pyplot for it."""
    return {name: matplotlib.rcParams[name] for name in matplotlib.rcParams if name != "backend"}


def words(figure):
    """Everything written in a figure."""
    return " ".join(text.get_text() for text in figure.findobj(matplotlib.text.Text))


def assert_picture(file):
    assert file.read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
    pixels = imread(file)
    assert min(pixels.shape[:2]) >= 300
    assert pixels.std() > 0.01  # not one colour all over
    assert [each.name for each in file.parent.iterdir()] == [file.name]


@each_drawing
def test_a_valid_png_is_written(draw, tmp_path):
    """Signature, decodable pixels, a size that can be read; folders are made; nothing else is left beside it."""
    file = tmp_path / "a folder" / "picture.png"
    draw(file)
    assert_picture(file)


@each_drawing
def test_the_file_may_be_a_str(draw, tmp_path, figures):
    """A path is a path, as text too."""
    draw(str(tmp_path / "picture.png"))
    assert (tmp_path / "picture.png").is_file()


@each_drawing
def test_no_state_of_matplotlib_is_touched(draw, tmp_path, monkeypatch):
    """The stateful pyplot is not even imported, no figure is registered, no setting and no random state changes."""
    monkeypatch.delitem(sys.modules, "matplotlib.pyplot", raising=False)
    managers = dict(matplotlib._pylab_helpers.Gcf.figs)
    random_state = np.random.get_state()[1].tolist()
    with matplotlib.rc_context():
        matplotlib.rcdefaults()  # or what an earlier picture had changed would be changed no more
        settings, backend = all_settings(), matplotlib.get_backend(auto_select=False)
        draw(tmp_path / "picture.png")
        assert all_settings() == settings
        assert matplotlib.get_backend(auto_select=False) == backend
    assert "matplotlib.pyplot" not in sys.modules
    assert dict(matplotlib._pylab_helpers.Gcf.figs) == managers
    assert np.random.get_state()[1].tolist() == random_state


@each_drawing
@pytest.mark.parametrize("before", [None, b"the old picture"])
def test_no_torn_file_when_drawing_fails(draw, before, tmp_path, monkeypatch):
    """When writing fails half-way the folder is as it was: the old picture, or none."""

    def fails(figure, file, **options):
        with open(file, "wb") as torn:
            torn.write(b"\x89PNG half of it")
        raise OSError("disk full")

    monkeypatch.setattr(matplotlib.figure.Figure, "savefig", fails)
    file = tmp_path / "picture.png"
    if before:
        file.write_bytes(before)
    with pytest.raises(OSError, match="disk full"):
        draw(file)
    assert [each.read_bytes() for each in tmp_path.iterdir()] == ([before] if before else [])


REPORTS = {
    "usual": usual,
    "censored": censored,
    "NaN": nothing,
    "mixed": mixed,
    "beyond": beyond,
    "certain": certain,
}


@pytest.mark.parametrize("of_canary", REPORTS.values(), ids=REPORTS)
@pytest.mark.parametrize("of_twin", [usual, censored, nothing])
def test_every_measurement_is_drawn(of_canary, of_twin, tmp_path, figures):
    """NaN, censored, unbounded and certain exposures, of canaries or twins, break no picture and warn of nothing."""
    report = report_of(of_canary, of_twin)
    exposure_against_repetitions(report, PIN.space_size, tmp_path / "a.png")
    exposure_over_training(over_training(report, None, report), PIN.space_size, tmp_path / "b.png")
    reference_histogram(report, PIN, tmp_path / "c.png")
    assert len(figures) == 3


@pytest.mark.parametrize("reports", [[], [None], [None, None], [report_of(nothing)], [None, report_of(mixed), None]])
def test_failed_measurements_are_left_out(reports, tmp_path, figures):
    """No measurement, measurements that failed, measurements without a number: the picture has the rest."""
    exposure_over_training(over_training(*reports), PIN.space_size, tmp_path / "picture.png")
    assert len(figures) == 1


@pytest.mark.parametrize(
    "references",
    [[7.0] * 60, [7.0], [1.0, 2.0] * 40, [*range(99), math.inf], []],
    ids=["constant", "one", "two-valued", "infinite", "none"],
)
def test_histogram_of_ugly_references(references, tmp_path, figures):
    """References that no skew-normal describes are drawn without it: constant, few, infinite, or none at all."""
    reference_histogram(report_of(usual, references=np.array(references)), PIN, tmp_path / "picture.png")
    assert "skew-normal" not in words(figures[0])


def test_histogram_has_the_fitted_law(tmp_path, figures):
    """Where a skew-normal was fitted it is drawn and named, beside the number of references."""
    reference_histogram(report_of(usual), PIN, tmp_path / "picture.png")
    assert "skew-normal" in words(figures[0])
    assert "500" in words(figures[0])


def test_histogram_is_of_one_format(tmp_path, figures):
    """Of several formats only the canaries of the one asked for are marked."""
    far = {PIN: 31.25, KEY: 93.75}
    report = report_of(lambda canary: (exposure(canary.id, cost=far[canary.format]),), formats=(PIN, KEY))
    reference_histogram(report, KEY, tmp_path / "picture.png")
    marked = {float(x) for line in figures[0].axes[0].lines for x in np.asarray(line.get_xdata())}
    assert 93.75 in marked
    assert 31.25 not in marked


@pytest.mark.parametrize("space_size", [12, 10**6, 10**400])
def test_the_axis_ends_a_little_above_the_limit(space_size, tmp_path, figures):
    """From 0 past log2|R| at any |R|, and no further: how far a law extrapolates is said, and drawn at the end."""
    report = report_of(beyond)
    exposure_against_repetitions(report, space_size, tmp_path / "a.png")
    exposure_over_training(over_training(report, report), space_size, tmp_path / "b.png")
    limit = math.log2(space_size)
    for figure in figures:
        axes = figure.axes[0]
        low, high = axes.get_ylim()
        assert low <= 0.0
        assert max(limit, 1.0) < high < 1.15 * max(limit, 1.0)
        assert "bits" in axes.get_ylabel()
        assert "log2|R|" in words(figure)
        assert ("extrapolated up to 190 bits" in words(figure)) == (limit < 190.0)
        heights = [y for line in axes.lines for y in np.asarray(line.get_ydata()).tolist()]
        assert max(heights) <= high


@pytest.mark.parametrize(("of_canary", "is_there"), [(usual, False), (censored, True), (mixed, True)])
def test_an_arrow_is_explained_where_there_is_one(of_canary, is_there, tmp_path, figures):
    """And only there."""
    report = report_of(of_canary, usual)
    exposure_against_repetitions(report, PIN.space_size, tmp_path / "a.png")
    exposure_over_training(over_training(report), PIN.space_size, tmp_path / "b.png")
    assert [("arrow" in words(figure)) for figure in figures] == [is_there, is_there]


def test_the_histogram_has_a_row_for_each_level_and_the_twins(tmp_path, figures):
    """Where all cost the same, too, none hides another; and above the bars."""
    report = report_of(
        lambda canary: (exposure(canary.id, cost=40.0),), lambda canary: (exposure(canary.id, cost=51.0),)
    )
    reference_histogram(report, PIN, tmp_path / "picture.png")
    axes = figures[0].axes[0]
    rows = {line.get_label(): line for line in axes.lines if line.get_marker() == "d"}
    assert list(rows) == [*(f"canaries inserted {n}" for n in ("16 times", "4 times", "once")), "twins, never inserted"]
    heights = [set(line.get_ydata()) for line in rows.values()]
    assert all(len(each) == 1 for each in heights)
    assert len(set.union(*heights)) == 4
    assert min(set.union(*heights)) > max(bar.get_height() for bar in axes.patches)
    assert list(rows["twins, never inserted"].get_xdata()) == [51.0] * 6
    assert list(rows["canaries inserted 4 times"].get_xdata()) == [40.0] * 2


def test_curves_are_the_records(tmp_path, figures):
    """Each canary's sampled exposures stand over the steps at which they were measured."""

    def growing(factor):
        return report_of(lambda canary: (exposure(canary.id, value=factor * canary.repetitions / 4),))

    exposure_over_training(over_training(growing(1), None, growing(2), growing(3)), 10**6, tmp_path / "picture.png")
    lines = figures[0].axes[0].lines
    curves = sorted(np.asarray(line.get_ydata()).tolist() for line in lines if list(line.get_xdata()) == [0, 20, 30])
    assert curves == sorted([[n / 4, 2 * n / 4, 3 * n / 4] for n in (1, 4, 16) for _ in range(2)])


def test_check_matplotlib_passes_where_it_is_installed():
    """With matplotlib there is nothing to say."""
    assert check_matplotlib() is None


def test_check_matplotlib_says_what_to_install(monkeypatch):
    """Without matplotlib the package's own error comes, with the command that helps."""
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(DataError, match=r"pip install .*hf_canary\[report\]") as caught:
        check_matplotlib()
    assert caught.value.argument == "matplotlib"


@pytest.mark.parametrize("high", [0.1, 0.9, 1.4, 1.7, 3.0])
def test_the_legend_stands_on_no_mark(high, tmp_path, figures):
    """However far beyond log2|R| the skew-normal goes."""
    limit = math.log2(PIN.space_size)
    report = report_of(lambda canary: (exposure(canary.id, value=high * limit, low=0.0, high=high * limit),))
    exposure_over_training(over_training(report, report), PIN.space_size, tmp_path / "a.png")
    exposure_against_repetitions(report, PIN.space_size, tmp_path / "b.png")
    for figure in figures:
        (axes,) = figure.axes
        legend = axes.get_legend().get_window_extent()
        assert not any(legend.overlaps(text.get_window_extent()) for text in axes.texts if text.get_text())
