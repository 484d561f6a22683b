"""Paper trading: a queue for our orders behind what a market shows, and the access that fills them there."""
