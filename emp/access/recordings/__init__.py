"""Recorded markets behind the market-access port."""

from emp.access.recordings.source import Recording, open_recording

__all__ = ["Recording", "open_recording"]
