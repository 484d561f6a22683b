"""The slow context (D.4): what is known of the hours and days around a trade, as a multiplier of size with a reason."""
