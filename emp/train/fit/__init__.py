"""Losses, loops, calibration and export."""
