"""FIX 4.4: frames, session, market data and orders without I/O, and an asyncio shell around them."""
