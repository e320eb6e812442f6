from django.urls import path

from deployments import views

urlpatterns = [
    path("deployments", views.deployments, name="deployments"),
    path("environments/<slug:slug>/deploy", views.deploy, name="deploy"),
    path("environments/<slug:slug>/rollback/<slug:service>", views.rollback, name="rollback"),
    path("releases", views.releases, name="releases"),
    path("releases/<slug:service>/<str:version>", views.release, name="release"),
]
