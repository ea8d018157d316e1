"""`hf-canary` and `python -m hf_canary`: the command line, whose imports take a second in which Ctrl-C is no error."""

INTERRUPTED = 130


def main() -> None:
    """The entry point."""
    try:
        from .cli import main as run

        run()
    except KeyboardInterrupt:
        raise SystemExit(INTERRUPTED) from None


if __name__ == "__main__":
    main()
