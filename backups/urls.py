from django.urls import path

from backups import point_views, policy_views, restore_views, views

urlpatterns = [
    path("backups", views.overview, name="backups"),
    path("backups/catalog", views.catalog, name="backup-catalog"),
    path("backups/<int:pk>", views.backup, name="backup"),
    path("backups/<int:pk>/test", views.test, name="backup-test"),
    path("backups/<int:pk>/hold", views.hold, name="backup-hold"),
    path("backups/<int:pk>/restore", restore_views.restore, name="backup-restore"),
    path("backups/<slug:environment>/<slug:slug>", policy_views.policy, name="backup-policy"),
    path("backups/<slug:environment>/<slug:slug>/run", policy_views.run, name="backup-run"),
    path("backups/<slug:environment>/<slug:slug>/pause", policy_views.pause, name="backup-pause"),
    path("backups/<slug:environment>/<slug:slug>/change", policy_views.change, name="backup-change"),
    path("backups/<slug:environment>/<slug:slug>/clean", policy_views.clean, name="backup-clean"),
    path("restore-points/<int:pk>", point_views.point, name="restore-point"),
    path("environments/<slug:slug>/restore-points", point_views.make, name="restore-point-make"),
]
