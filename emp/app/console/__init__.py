"""The console: one page that shows what the engine sees, does and why, and from which its owner controls it."""
