"""The one place that states the version; it is stamped into journals and artifacts."""

__version__ = "0.1.0"
