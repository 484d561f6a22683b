"""Gates, registry, promotion, evidence."""
