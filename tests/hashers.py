"""A password hasher for tests: what it stores, the usual one can read, and it takes no time."""

from django.contrib.auth.hashers import PBKDF2PasswordHasher


class QuickHasher(PBKDF2PasswordHasher):
    iterations = 1
