"""Alert rules: conditions as the guide writes them, what they are measured by, and what follows when they hold."""
