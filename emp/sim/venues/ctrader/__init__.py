"""A cTrader Open API venue."""
