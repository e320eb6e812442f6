"""Processes of this computer."""
