from django.urls import path

from environments import views

urlpatterns = [
    path("", views.board, name="board"),
    path("environments/<slug:slug>", views.environment, name="environment"),
    path("environments/<slug:slug>/lock", views.lock, name="environment-lock"),
    path("environments/<slug:slug>/unlock", views.unlock, name="environment-unlock"),
]
