"""From configuration to objects that run."""
