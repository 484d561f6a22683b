"""Estimators and experiments on a market, recorded or simulated."""
