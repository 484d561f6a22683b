"""What one engine takes of a machine, and many engines of many: measured on one, simulated for the others."""
