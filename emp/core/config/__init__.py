"""What the owner sets: the configuration, where it comes from, and secrets."""
