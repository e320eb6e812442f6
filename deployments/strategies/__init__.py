"""The ways a release reaches an environment: each is pure functions from what runs and settings to a plan."""
