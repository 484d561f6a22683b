"""A broker's statement beside the ledger: `emp reconcile`."""
