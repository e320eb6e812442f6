"""A database like that of a real service: people, what they write to each other, and what they pay and look at.

Texts are of words and phrases with the frequencies of a language, cut from a long one that is far larger than any
window of a compressor. Rows of events are what such rows are everywhere: numbers, times, JSON with the same keys, a
and pages and browsers of which some come much more often than others.
"""

import random
from collections.abc import Iterable
from typing import Any

import psycopg

WORDS, PHRASES = 6000, 12_000
CORPUS_WORDS = 3_000_000
LETTERS = "etaoinshrdlucmfwypvbgk"
SCHEMA = """
CREATE TABLE users (id int, email text, name text, company text, bio text, created timestamptz,
                    credits numeric(12, 2));
CREATE TABLE pitches (id int, user_id int, title text, genre text, body text, budget numeric(14, 2), score float8,
                      created timestamptz);
CREATE TABLE messages (id int, sender int, receiver int, body text, sent timestamptz, seen boolean);
CREATE TABLE payments (id int, user_id int, pitch_id int, amount numeric(12, 2), fee numeric(12, 4), status text,
                       paid timestamptz, details jsonb);
CREATE TABLE views (id bigint, pitch_id int, user_id int, at timestamptz, seconds numeric(8, 3), depth float8,
                    country text, address inet, browser_id int);
CREATE TABLE browsers (id int PRIMARY KEY, name text);
"""
INDEXES = """
ALTER TABLE users ADD PRIMARY KEY (id), ADD UNIQUE (email);
ALTER TABLE pitches ADD PRIMARY KEY (id); CREATE INDEX ON pitches (user_id);
ALTER TABLE messages ADD PRIMARY KEY (id); CREATE INDEX ON messages (receiver, sent);
ALTER TABLE payments ADD PRIMARY KEY (id); CREATE INDEX ON payments (user_id); CREATE INDEX ON payments (paid);
ALTER TABLE views ADD PRIMARY KEY (id); CREATE INDEX ON views (pitch_id, at);
"""
EVENTS = """
INSERT INTO payments
  SELECT n, 1 + random() * {people}, 1 + random() * {pitches}, (random() * 5000)::numeric(12, 2),
         (random() * 50)::numeric(12, 4), (ARRAY['paid', 'open', 'refunded'])[1 + (n % 17) / 6],
         '2025-01-01'::timestamptz + n * interval '17.3 s',
         jsonb_build_object('provider', 'stripe', 'method', (ARRAY['card', 'sepa', 'paypal'])[1 + n % 3],
                            'last4', lpad((random() * 9999)::int::text, 4, '0'), 'risk', round(random()::numeric, 2))
    FROM generate_series(1, {payments}) n;
INSERT INTO browsers
  SELECT n, 'Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 Chrome/' || n || '.0.0.0 Safari/537.36'
    FROM generate_series(1, 300) n;
INSERT INTO views
  SELECT n, 1 + (random() ^ 4 * {pitches})::int, 1 + random() * {people},
         '2025-01-01'::timestamptz + n * interval '9.1 s', (random() * 600)::numeric(8, 3), round(random()::numeric, 4),
         (ARRAY['DE', 'FR', 'US', 'GB', 'IT', 'ES'])[1 + n * 7 % 6], '10.0.0.0'::inet + (random() ^ 3 * 99999)::int,
         1 + (random() ^ 4 * 299)::int
    FROM generate_series(1, {views}) n;
"""


class Writer:
    """Makes texts; the same seed makes the same ones."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        choose = self._random.choices
        words = [
            "".join(choose(LETTERS, range(len(LETTERS), 0, -1), k=self._random.randint(2, 10))) for _ in range(WORDS)
        ]
        phrases = [" ".join(choose(words, _zipf(WORDS), k=self._random.randint(1, 5))) for _ in range(PHRASES)]
        self._corpus = " ".join(choose(phrases, _zipf(PHRASES), k=CORPUS_WORDS // 3))

    def text(self, least: int, most: int) -> str:
        """Of so many letters."""
        length = self._random.randint(least, most)
        start = self._random.randrange(len(self._corpus) - length)
        return self._corpus[start : start + length].strip().capitalize()

    def number(self, most: int) -> int:
        """From 1."""
        return self._random.randint(1, most)


def _zipf(count: int) -> list[float]:
    return [1 / rank for rank in range(1, count + 1)]


def fill(connection: "psycopg.Connection[Any]", mb: int, *, checkpoint: bool = True) -> None:
    """Make about so many megabytes of tables and indexes."""
    writer = Writer(mb)
    people, pitches, messages = 90 * mb, 60 * mb, 550 * mb
    connection.execute(SCHEMA.encode())
    _copy(connection, "users", (
        (n, f"user{n}@{writer.text(5, 9).split()[0].lower()}.example", writer.text(8, 18), writer.text(6, 20),
         writer.text(60, 300), f"2025-01-01 00:{n // 60 % 60:02}:{n % 60:02}+00", f"{writer.number(99999) / 100:.2f}")
        for n in range(1, people + 1)
    ))  # fmt: skip
    _copy(connection, "pitches", (
        (n, writer.number(people), writer.text(20, 60), ("drama", "comedy", "documentary")[n % 3],
         writer.text(400, 3500), f"{writer.number(9_000_000)}.00", writer.number(10**9) / 10**8,
         f"2025-03-{n % 28 + 1:02} 12:00:00+00")
        for n in range(1, pitches + 1)
    ))  # fmt: skip
    _copy(connection, "messages", (
        (n, writer.number(people), writer.number(people), writer.text(30, 300),
         f"2025-05-{n % 28 + 1:02} {n % 24:02}:{n // 7 % 60:02}:{n % 60:02}.{n % 899 + 100}+00", n % 3 == 0)
        for n in range(1, messages + 1)
    ))  # fmt: skip
    connection.execute(INDEXES.encode())
    events = EVENTS.format(people=people - 1, pitches=pitches - 1, payments=1400 * mb, views=3000 * mb)
    connection.execute("SELECT setseed(0.5)")
    connection.execute(events.encode())
    connection.execute("VACUUM ANALYZE")  # as autovacuum would do soon, in the middle of what is measured
    if checkpoint:
        connection.execute("CHECKPOINT")


def _copy(connection: "psycopg.Connection[Any]", table: str, rows: Iterable[tuple[object, ...]]) -> None:
    with connection.cursor().copy(f"COPY {table} FROM STDIN".encode()) as copy:
        for row in rows:
            copy.write_row(row)
