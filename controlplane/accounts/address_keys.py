"""Keys in addresses that programs read without signing in: of one person, for one thing, and nothing else.

A key is made of the person and the person's password hash: a new password, or an account that was closed, ends it.
"""

from django.utils.crypto import constant_time_compare, salted_hmac

from controlplane.accounts.models import Person


def key_for(person: Person, salt: str, thing: str) -> str:
    """What the address of this thing carries for this person. salt: of the kind of thing."""
    mac = salted_hmac(salt, f"{person.pk}/{thing}/{person.password}", algorithm="sha256")
    return f"{person.pk}-{mac.hexdigest()[:40]}"


def holder_of(key: str, salt: str, thing: str) -> Person | None:
    """Whose key it is; None when it opens nothing (any more)."""
    number = key.partition("-")[0]
    if not (number.isascii() and number.isdigit() and len(number) < 18):
        return None
    person = Person.objects.filter(pk=int(number), is_active=True).first()
    return person if person and constant_time_compare(key, key_for(person, salt, thing)) else None
