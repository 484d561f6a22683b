"""Markets that answer: flow, days and our orders in one clock."""
