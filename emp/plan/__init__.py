"""Looking ahead: transition models and search."""
