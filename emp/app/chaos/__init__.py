"""`emp chaos`: whole runs in worlds of one seed, checked after every event."""
