"""Where it is written who may trade an account's instruments: the port, a store in memory, a store in Redis."""
