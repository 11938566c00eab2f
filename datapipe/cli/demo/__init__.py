"""`datapipe demo`: the whole way on real input: corpus → dataset → training → resume → profile."""

from datapipe.cli.demo.command import demo

__all__ = ["demo"]
