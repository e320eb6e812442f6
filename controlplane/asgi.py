"""ASGI entry point: alerts first, then the live streams, then Django."""

import os

from django.core.asgi import get_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "controlplane.settings")
# A process that freezes in the middle of a transaction gives its rows back.
os.environ.setdefault("PGOPTIONS", "-c idle_in_transaction_session_timeout=10s")
django_application = get_asgi_application()

# Models can be imported only once Django is set up.
from controlplane.accounts.streams import authenticate  # noqa: E402
from controlplane.live.app import LiveApp  # noqa: E402
from incidents.intake.app import IntakeApp  # noqa: E402

application = IntakeApp(LiveApp(django_application, authenticate=authenticate))
