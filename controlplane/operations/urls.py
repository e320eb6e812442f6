from django.urls import path

from controlplane.operations import bypass_views, views, world_views

urlpatterns = [
    path("nav-counts", views.nav_counts, name="nav-counts"),
    path("break-glass", bypass_views.bypass_list, name="bypasses"),
    path("break-glass/<int:pk>/review", bypass_views.review, name="bypass-review"),
    path("world", world_views.switch, name="world"),
    path("world/banner", world_views.banner, name="world-banner"),
    path("world/stop", world_views.stop, name="world-stop"),
    path("world/release", world_views.release, name="world-release"),
    path("approvals", views.approvals, name="approvals"),
    path("operations/<int:pk>", views.operation, name="operation"),
    path("operations/<int:pk>/status", views.status, name="operation-status"),
    path("operations/<int:pk>/actions", views.actions, name="operation-actions"),
    path("operations/<int:pk>/deed", views.deed, name="operation-deed"),
    path("operations/<int:pk>/approve", views.approve, name="operation-approve"),
    path("operations/<int:pk>/reject", views.reject, name="operation-reject"),
    path("operations/<int:pk>/cancel", views.cancel, name="operation-cancel"),
    path("operations/<int:pk>/resolve", views.resolve, name="operation-resolve"),
    path("operations/<int:pk>/log", views.log, name="operation-log"),
    path("operations/<int:pk>/log.txt", views.log_download, name="operation-log-download"),
]
