from django.urls import path

from controlplane.accounts import people_views, token_views
from controlplane.accounts.password_views import ChangePassword, SetPassword
from controlplane.accounts.sign_in_views import SignIn, SignOut

urlpatterns = [
    path("login", SignIn.as_view(), name="login"),
    path("logout", SignOut.as_view(), name="logout"),
    path("password", ChangePassword.as_view(), name="password"),
    path("password/<uidb64>/<token>", SetPassword.as_view(), name="password-set"),
    path("people", people_views.people, name="people"),
    path("people/add", people_views.add, name="person-add"),
    path("people/<int:pk>", people_views.person, name="person"),
    path("people/<int:pk>/roles", people_views.roles, name="person-roles"),
    path("people/<int:pk>/state", people_views.state, name="person-state"),
    path("people/<int:pk>/delete", people_views.delete, name="person-delete"),
    path("people/<int:pk>/password", people_views.password_link, name="person-password"),
    path("tokens", token_views.tokens, name="tokens"),
    path("tokens/<int:pk>/revoke", token_views.token_revoke, name="token-revoke"),
]
