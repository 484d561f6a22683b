"""Skill beside baselines, with intervals."""
