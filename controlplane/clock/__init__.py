"""The clock: calls registered functions on time, with PostgreSQL as its only need."""
