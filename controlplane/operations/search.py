"""Searching the words of a row as people type them."""

import re

from django.contrib.postgres.search import SearchQuery


def words_query(words: str) -> SearchQuery:
    """All the words, each perhaps only begun."""
    terms = [f"'{word}':*" for word in re.sub(r"['\\]", " ", words).split()]
    return SearchQuery(" & ".join(terms), config="simple", search_type="raw")
