"""The command line, the console and the wiring of examples."""
