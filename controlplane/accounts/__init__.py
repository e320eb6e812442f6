"""People, their roles in each environment, and their API tokens."""
