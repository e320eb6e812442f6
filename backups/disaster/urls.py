from django.urls import path

from backups.disaster import drill_views, moving_views, pulse_views, region_views, views

urlpatterns = [
    path("recovery", views.overview, name="recovery"),
    path("recovery/runs/<int:pk>", views.run, name="recovery-run"),
    path("recovery/runs/<int:pk>/report", views.report, name="recovery-report"),
    path("recovery/<slug:slug>", views.plan, name="recovery-plan"),
    path("recovery/<slug:slug>/pulse", pulse_views.pulse, name="recovery-pulse"),
    path("recovery/<slug:slug>/change", views.change, name="recovery-plan-change"),
    path("recovery/<slug:slug>/failover", moving_views.failover, name="recovery-failover"),
    path("recovery/<slug:slug>/failback", moving_views.failback, name="recovery-failback"),
    path("recovery/<slug:slug>/regions", region_views.regions, name="recovery-regions"),
    path("recovery/<slug:slug>/regions/mend", region_views.mend, name="recovery-regions-mend"),
    path("recovery/<slug:slug>/drill", drill_views.drill, name="recovery-drill"),
    path("recovery/<slug:slug>/drills", drill_views.drills, name="recovery-drills"),
]
