from django.apps import AppConfig


class AccountsConfig(AppConfig):
    name = "controlplane.accounts"
    label = "accounts"

    def ready(self) -> None:
        """Tell the audit trail of sign-ins; Django's signals are its own way to hear of them."""
        from django.contrib.auth import signals

        from controlplane.accounts import sign_in

        signals.user_logged_in.connect(sign_in.signed_in)
        signals.user_logged_out.connect(sign_in.signed_out)
        signals.user_login_failed.connect(sign_in.failed)
