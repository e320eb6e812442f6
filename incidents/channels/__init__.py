"""How people are reached: one file a channel, a dict as registry, and the sender that empties the outbox."""
