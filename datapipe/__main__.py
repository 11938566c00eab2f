"""`python -m datapipe` is the `datapipe` command."""

from datapipe.cli.main import run

if __name__ == "__main__":
    run()
