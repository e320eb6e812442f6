"""Asking several at the same time, in threads that no process waits for at its end, as it would for an executor's."""

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import TypeVar

Question = TypeVar("Question")
Answer = TypeVar("Answer")


def begin(ask: Callable[[Question], Answer], question: Question, name: str) -> "Future[Answer]":
    """Ask in a thread of that name; what comes of it is in the future."""
    future: Future[Answer] = Future()

    def run() -> None:
        try:
            future.set_result(ask(question))
        except BaseException as error:  # noqa: BLE001 - it is raised where the answer is taken
            future.set_exception(error)

    threading.Thread(target=run, name=name, daemon=True).start()
    return future


def ask_all(ask: Callable[[Question], Answer], questions: Sequence[Question], name: str, most: int) -> list[Answer]:
    """The answers in the order of the questions, once all are there; so many are asked at the same time."""
    turns = threading.BoundedSemaphore(most)

    def in_turn(question: Question) -> Answer:
        with turns:
            return ask(question)

    return [one.result() for one in [begin(in_turn, question, name) for question in questions]]
