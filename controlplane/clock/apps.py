from django.apps import AppConfig


class ClockConfig(AppConfig):
    name = "controlplane.clock"
    label = "clock"
