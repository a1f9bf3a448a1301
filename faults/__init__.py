"""The workload and the checker of script/faults: what a router loses, repeats, misorders or forges under faults."""

__all__: list[str] = []
