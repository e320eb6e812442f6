from django.urls import path

from controlplane.web import views

urlpatterns = [
    path("theme", views.theme, name="theme"),
    path("healthz", views.healthz, name="healthz"),
]
