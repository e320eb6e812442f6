"""Django's pages for changing and setting a password, with their entries in the audit trail."""

from typing import Any

from axes.utils import reset
from django.contrib import messages
from django.contrib.auth.views import PasswordChangeView, PasswordResetConfirmView
from django.db import transaction
from django.http import HttpResponse
from django.urls import reverse_lazy

from controlplane.accounts.access import Actor
from controlplane.accounts.services import record_password

WORDS = "Your password was changed, and your other sessions have ended. Your API tokens are still valid."


class ChangePassword(PasswordChangeView):
    """A new password for oneself, by giving the old one. Other sessions end, this one goes on."""

    template_name = "accounts/password_change.html"
    success_url = reverse_lazy("tokens")

    def form_valid(self, form: Any) -> HttpResponse:
        """Keep it, and that it happened."""
        with transaction.atomic():
            response = super().form_valid(form)
            record_password(form.user, Actor(form.user).who)
        messages.success(self.request, WORDS)
        return response


class SetPassword(PasswordResetConfirmView):
    """A first or a forgotten password, by an administrator's link; it also opens signing in again after failures."""

    template_name = "accounts/password_set.html"
    success_url = reverse_lazy("login")

    def get_user(self, uidb64: str) -> Any:
        """Whose link it is; that of somebody who was deactivated leads nowhere."""
        somebody = super().get_user(uidb64)
        return somebody if somebody is not None and somebody.is_active else None

    def form_valid(self, form: Any) -> HttpResponse:
        """Keep it, and that it happened."""
        with transaction.atomic():
            response = super().form_valid(form)
            reset(username=form.user.username)
            record_password(form.user, Actor(form.user, via="password link").who)
        messages.success(self.request, "Your new password is set.")
        return response
