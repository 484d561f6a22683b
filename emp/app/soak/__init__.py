"""A run measured over hours: what it takes, how fast it decides, what grows: `emp soak`."""
