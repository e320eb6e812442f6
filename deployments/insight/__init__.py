"""What people look for in the history: where each version is, how often and how well it is deployed, and when."""
