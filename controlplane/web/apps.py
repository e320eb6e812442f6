from django.apps import AppConfig
from django.core.checks import register

from controlplane.web.checks import CHECKS


class WebConfig(AppConfig):
    name = "controlplane.web"
    label = "web"

    def ready(self) -> None:
        for check in CHECKS:
            register(check, "controlplane")
