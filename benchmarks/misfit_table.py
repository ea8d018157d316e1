"""The table in estimators/skew_normal.py: A² of Anderson and Darling, of samples from their own skew-normal fits.

For each shape so many samples are drawn, fitted, and held against their fits; printed are the values that are
exceeded with each probability. Other sizes of samples show what the table
misses for them.
"""

import argparse

import numpy as np

from hf_canary.estimators.skew_normal import _MISFIT_PS, _SHAPES, SkewNormal, refits


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=6000, help="samples of each shape")
    parser.add_argument("--sizes", type=int, nargs="+", default=[1000], help="values of a sample")
    arguments = parser.parse_args()
    print("exceeded with", *_MISFIT_PS)
    for size in arguments.sizes:
        for number, shape in enumerate(_SHAPES):
            _, misfits = refits(SkewNormal(shape, 0.0, 1.0), size, arguments.repeats, number)
            quantiles = np.quantile(misfits, 1.0 - np.array(_MISFIT_PS))
            print(size, shape, ", ".join(f"{value:.3f}" for value in quantiles), flush=True)


if __name__ == "__main__":
    main()
