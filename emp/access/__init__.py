"""The outside world behind one port: recordings, FIX, cTrader."""
