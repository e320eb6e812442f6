from django.urls import path

from controlplane.audit import views

urlpatterns = [
    path("audit", views.audit, name="audit"),
    path("audit.<str:form>", views.download, name="audit-download"),
]
