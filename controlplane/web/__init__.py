"""What every page is made of: the shell, components, static files, headers."""
