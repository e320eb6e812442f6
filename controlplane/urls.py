"""Every address of the control plane."""

from django.urls import include, path

urlpatterns = [
    path("", include("controlplane.web.urls")),
    path("", include("controlplane.accounts.urls")),
    path("", include("controlplane.audit.urls")),
    path("", include("controlplane.operations.urls")),
    path("", include("environments.urls")),
    path("", include("deployments.urls")),
    path("", include("backups.urls")),
    path("", include("backups.disaster.urls")),
    path("", include("incidents.urls")),
    path("api/", include("controlplane.api")),
]
