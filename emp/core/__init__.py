"""What every room may know: records, contracts, instrument facts, time, ids, errors."""
