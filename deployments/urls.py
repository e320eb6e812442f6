from django.urls import path

from deployments import adoption_views, canary_views, manifest_views, policy_views, views
from deployments.insight import calendar_views
from deployments.insight import views as insight_views
from deployments.pipelines import page as pipelines_page

urlpatterns = [
    path("deployments", views.deployments, name="deployments"),
    path("deployments/numbers", insight_views.numbers, name="numbers"),
    path("deployments/calendar", calendar_views.calendar, name="calendar"),
    path("deployments/calendar.ics", calendar_views.ics, name="calendar-ics"),
    path("pipelines", pipelines_page.pipelines, name="pipelines"),
    path("promotion", insight_views.promotions, name="promotions"),
    path("promotion/<slug:slug>", insight_views.promotion, name="promotion"),
    path("deployments/<int:pk>/canary", canary_views.canary, name="canary"),
    path("deployments/<int:pk>/commits", views.commits, name="deployment-commits"),
    path("deployments/<int:pk>/checklist", policy_views.checklist, name="deployment-checklist"),
    path("environments/<slug:slug>/manifests/<slug:service>", manifest_views.manifests, name="manifests"),
    path("environments/<slug:slug>/rules", policy_views.policy, name="policy"),
    path("environments/<slug:slug>/rules/freeze", policy_views.add_freeze, name="policy-freeze"),
    path("environments/<slug:slug>/rules/thaw", policy_views.take_freeze_away, name="policy-thaw"),
    path("environments/<slug:slug>/deploy", views.deploy, name="deploy"),
    path("environments/<slug:slug>/rollback/<slug:service>", views.rollback, name="rollback"),
    path("environments/<slug:slug>/adopt/<slug:service>", adoption_views.adopt, name="adopt"),
    path("releases", views.releases, name="releases"),
    path("releases/<slug:service>/<str:version>", views.release, name="release"),
]
