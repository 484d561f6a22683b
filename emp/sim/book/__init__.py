"""The limit order book and its matching engine."""
