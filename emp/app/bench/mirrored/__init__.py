"""A drill of mirrors: real services, a journal that grows, and faults at random moments."""
