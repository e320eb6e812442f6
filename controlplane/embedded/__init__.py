"""The local stack: PostgreSQL, Redis and the sample service as real processes of this computer."""
