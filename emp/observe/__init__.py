"""Metrics, health, drift, baselines, the validation report."""
