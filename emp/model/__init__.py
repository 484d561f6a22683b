"""Numbers to belief: compiled forecasting steps, artifacts, the per-instrument state table."""
