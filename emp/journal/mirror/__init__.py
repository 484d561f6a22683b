"""Mirrors: what a run has journalled, carried by cursor to Kafka, PostgreSQL and Redis, in a process of its own."""
