"""A drill of take-overs: engines that want one account, a venue that keeps book, and faults at random moments."""
