"""Measures Smart Router beside its peers: run by `script/bench`, described in docs/performance.md."""

__all__: list[str] = []
