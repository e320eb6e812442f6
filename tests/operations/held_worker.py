"""The Celery application of `held.py`: the real one, which knows one kind of operation more."""

from typing import Any

from celery.signals import worker_process_init

from controlplane.celery import app


@worker_process_init.connect
def know_the_kind(**_: Any) -> None:
    """Once Django is set up."""
    from tests.operations import held  # noqa: PLC0415 -- it needs the models

    held.register()


__all__ = ["app"]
