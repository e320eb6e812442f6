"""Saying things to the person at the terminal, and asking them. What they answer goes into the journal, with who."""

import sys
from dataclasses import dataclass

from backups.disaster.kit.script.errors import Ended

SHORTEST_WORDS = 3  # words of a sentence that takes a risk


def say(words: str = "") -> None:
    """A line on the terminal, at once."""
    sys.stdout.write(words + "\n")
    sys.stdout.flush()


def printable(text: str) -> str:
    """Without what no page and no database can show."""
    return "".join(letter for letter in text if letter.isprintable()).strip()


@dataclass
class Person:
    """Whoever runs this. accept: the restore point that is proposed is taken without asking."""

    name: str
    accept: bool = False

    def ask(self, question: str) -> str:
        """One line of theirs. Raises Ended when nobody is there."""
        say()
        say(question)
        sys.stdout.write("> ")
        sys.stdout.flush()
        try:
            line = sys.stdin.readline()
        except UnicodeDecodeError:
            return self.ask(question)
        if not line:
            raise Ended("Nobody is there to answer. Start it again at a terminal; it goes on from here.")
        return printable(line)

    def choose(self, question: str, *answers: str) -> str:
        """One of the answers, asked for until it is given."""
        while True:
            given = self.ask(f"{question} ({' / '.join(answers)})").lower()
            if given in answers:
                return given

    def in_words(self, question: str) -> str:
        """A sentence: what somebody can be held to."""
        while True:
            given = self.ask(question)
            if len(given.split()) >= SHORTEST_WORDS:
                return given
            say(f"A sentence, please, of at least {SHORTEST_WORDS} words: it goes into the journal with your name.")
