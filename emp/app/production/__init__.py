"""`emp doctor --production`: what a box must be before it may hold money, looked at on the box itself."""
