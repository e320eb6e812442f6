from django.apps import AppConfig


class DeploymentsConfig(AppConfig):
    name = "deployments"

    def ready(self) -> None:
        """Register the kind of operation this app brings."""
        from controlplane.operations.registry import register_kind
        from deployments.kind import DEPLOYMENT

        register_kind(DEPLOYMENT)
