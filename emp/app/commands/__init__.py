"""One module per command of `emp`; see `emp.app.cli` for how they are found."""
