"""How a fuzz target runs: atheris with coverage where it is installed, else so many Hypothesis examples."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Callable

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

__all__ = ["run"]

EXAMPLES = 20_000


def run(one_input: Callable[[bytes], None], inputs: st.SearchStrategy[bytes]) -> None:
    """Feed the target; arguments are those of libFuzzer or, without atheris, the number of examples."""
    if importlib.util.find_spec("atheris") is None:
        examples = int(sys.argv[1]) if len(sys.argv) > 1 else EXAMPLES
        checks = list(HealthCheck)
        settings(max_examples=examples, deadline=None, suppress_health_check=checks)(given(inputs)(one_input))()
        print(f"{examples} examples, nothing found")
        return
    atheris = importlib.import_module("atheris")
    atheris.instrument_all()
    atheris.Setup(sys.argv, one_input)
    atheris.Fuzz()
