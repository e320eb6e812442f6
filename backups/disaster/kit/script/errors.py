"""What can go wrong, each with words for the person who reads them."""


class Passing(Exception):
    """It may pass: no answer, too many requests. Whether a change was taken has to be looked at before trying again."""


class Wrong(Exception):
    """Trying again does not help; somebody has to change something first."""


class Doubt(Exception):
    """Only a person can tell."""


class Ended(Exception):
    """This run stops here. It goes on from its journal when it is started again."""


class Broken(Exception):
    """A file is not what was written: the kit, or the journal."""
