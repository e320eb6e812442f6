"""Live pages: PostgreSQL holds what happened, Redis only rings, one hub a process tells every viewer."""
