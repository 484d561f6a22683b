"""Recorded markets behind the market-access port."""

from emp.access.recordings.source import Recording, files_of, open_recording

__all__ = ["Recording", "files_of", "open_recording"]
