"""The command line: parse, call, print. Nothing is computed here that the Python API could not do."""
