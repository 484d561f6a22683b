"""What happened, durably: ledger, action log, mirrors."""
