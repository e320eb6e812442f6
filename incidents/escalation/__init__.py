"""Who is told, when: the plan of an incident as rows with absolute due times, and the clock that carries it out."""
