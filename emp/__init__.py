"""EMP / Alphatrade: an autonomous trading system that reasons in ticks, spreads and sigma."""

from emp.version import __version__

__all__ = ["__version__"]
