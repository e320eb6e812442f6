"""Sites that fail over and come home while everything between and below them fails; see docs/chaos.md."""
