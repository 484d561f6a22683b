"""How much a signal can trade before it eats itself."""
