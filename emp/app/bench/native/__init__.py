"""Native programs of the field, measured beside ours: their stream files, their runs, the table of like work."""
