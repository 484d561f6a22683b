"""Intent to approved or refused: limits, kill switch, slow context."""
