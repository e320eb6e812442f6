"""How each kind of backup is made."""
