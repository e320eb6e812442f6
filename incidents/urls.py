from django.urls import path

from incidents import demo_views

urlpatterns = [
    path("incidents/demo", demo_views.break_something, name="incident-demo"),
]
