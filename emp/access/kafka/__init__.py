"""Market data from Kafka: the records that a mirror wrote, as the market of an engine (docs/mirrors.md)."""
