"""The page of the Space: paste log-perplexities, read exposures. Translates text to numbers and back."""

from pathlib import Path

import evaluate

_HEADERS = ["canary", "exposure", "95 % interval", "what to know"]
_MOST_DIGITS = 30
_ESTIMATORS = ["auto", "exact", "sampled", "skewnorm"]


def exposures(canaries: str, references: str, space_size: str, estimator: str) -> list[list[str]]:
    """One row for each canary.

    Args:
        canaries: log-perplexities in bits, separated by spaces, commas or line ends; lower means better memorised.
        references: those of random sequences of the same format.
        space_size: how many sequences the format has, such as 10000 or 10**9.
        estimator: one of the metric's.

    Raises:
        ValueError: what is no number, and what the metric refuses.
    """
    own, others = _numbers(canaries, "canaries"), _numbers(references, "references")
    base, _, power = space_size.replace("^", "**").partition("**")
    try:
        if len(space_size) > _MOST_DIGITS or int(power or "1") > _MOST_DIGITS:
            raise ValueError
        size = int(base) ** int(power or "1")
    except ValueError:
        raise ValueError(
            f"The size of the space is a whole number such as 10000 or 10**9, not {space_size!r}"
        ) from None
    result = evaluate.load(str(Path(__file__).with_name("canary_exposure.py"))).compute(
        log_perplexities=own + others,
        is_canary=[True] * len(own) + [False] * len(others),
        space_size=size,
        estimator=estimator,
    )
    return [
        [str(number), f"{value:.2f}", f"{low:.2f} to {high:.2f}", ", ".join(dict.fromkeys([status, *flags]))]
        for number, (value, low, high, status, flags) in enumerate(
            zip(*(result[name] for name in ("exposure", "low", "high", "status", "flags")), strict=True), start=1
        )
    ]


def _numbers(text: str, what: str) -> list[float]:
    try:
        return [float(part) for part in text.replace(",", " ").replace(";", " ").split()]
    except ValueError as error:
        raise ValueError(f"The {what} must be numbers: {error}") from None


def page():
    """The form."""
    import gradio  # only where the page is shown

    def shown(*values):
        try:
            return exposures(*values)
        except Exception as error:  # whatever the metric refuses, it says why
            raise gradio.Error(str(error)) from error

    return gradio.Interface(
        shown,
        inputs=[
            gradio.Textbox(label="Log-perplexities of the canaries, in bits", value="31.0 45.2"),
            gradio.Textbox(
                label="... of random sequences of the same format", value="40.0 41.5 39.8 42.1 44.0", lines=5
            ),
            gradio.Textbox(label="How many sequences the format has", value="10**4"),
            gradio.Dropdown(_ESTIMATORS, value="auto", label="Estimator"),
        ],
        outputs=gradio.Dataframe(headers=_HEADERS, label="Exposure in bits: higher means better memorised"),
        title="Canary exposure",
        article=Path(__file__).with_name("README.md").read_text(encoding="utf-8").split("---", 2)[-1],
        flagging_mode="never",
    )


if __name__ == "__main__":
    page().launch()
