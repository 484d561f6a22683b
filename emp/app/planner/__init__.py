"""The planner on the command line: its training, its gate, its worth."""
