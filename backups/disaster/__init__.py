"""Disaster recovery: plans for pairs of environments, readiness, failover, failback and drills.

`base` says what a database, a way of traffic and a store of uploads have to offer; `databases/`, `traffic/` and
`uploads/` have one file for each kind. `plans` puts their parts together, purely; `kinds` and `services` are how the
operation engine and people meet them.
"""
