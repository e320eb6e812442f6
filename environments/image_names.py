"""The parts of an image's name: repository:tag@digest."""


def repository_of(image: str) -> str:
    """An image's name without tag and digest."""
    name = image.partition("@")[0]
    head, slash, last = name.rpartition("/")
    return head + slash + last.partition(":")[0]


def tag_of(image: str) -> str:
    """An image's tag, "" without one."""
    return image.partition("@")[0].rpartition("/")[2].partition(":")[2]


def digest_in(image: str) -> str:
    """The digest an image is pinned to, "" when a tag decides."""
    return image.partition("@")[2]
