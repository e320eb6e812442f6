"""The Celery task: an interface, nothing more."""

import os
import socket

from celery import shared_task

from controlplane.operations import engine


@shared_task(name="operations.run")
def run_operation(operation_id: int) -> None:
    """Run an operation as far as it goes, if it is free to be run."""
    engine.run(operation_id, worker=f"{socket.gethostname()}:{os.getpid()}")
