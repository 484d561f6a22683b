"""Approved orders to fills to positions: state machine, dedupe, reconcile, flatten."""
