"""One module per benchmark: `emp bench NAME`."""
