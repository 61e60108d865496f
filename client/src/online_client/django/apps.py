"""The application for INSTALLED_APPS: checks the settings when Django does, and counts nobody twice who signs in."""

from collections.abc import Iterator, Sequence
from typing import Any

from django.apps import AppConfig, apps
from django.conf import settings
from django.contrib.auth import get_user_model
from django.contrib.auth.signals import user_logged_in, user_logged_out
from django.core import checks
from django.core.signals import setting_changed
from django.http import HttpRequest

from online_client.address import parse_addresses
from online_client.django.settings import FUNCTIONS, forget, function, page_views, proxies, reports, server_url
from online_client.errors import AddressError
from online_client.visitors import VisitorCookie

MIDDLEWARE = "online_client.django.middleware.OnlineMiddleware"


class OnlineConfig(AppConfig):
    name = "online_client.django"
    label = "online_client"
    verbose_name = "Who is online"

    def ready(self) -> None:
        checks.register(check)
        setting_changed.connect(forget)
        user_logged_in.connect(_signed_in)
        user_logged_out.connect(_signed_out)


def _signed_in(*, request: HttpRequest | None = None, **_: Any) -> None:
    if request is not None and reports():  # who signs users in without one had no guest
        page_views().signed_in(request)


def _signed_out(*, request: HttpRequest | None = None, **_: Any) -> None:
    if request is not None and reports():
        page_views().signed_out(request)


def check(app_configs: Sequence[AppConfig] | None, **_: Any) -> list[checks.CheckMessage]:
    """Find what is wrong with the settings."""
    found = (_check_url, _check_functions, _check_proxies, _check_cookie, _check_middleware, _check_names)
    return [message for find in found for message in find()]


def _check_url() -> Iterator[checks.CheckMessage]:
    try:
        parse_addresses(server_url())[0].tls_context()
    except AddressError as error:
        yield checks.Error(f"ONLINE_URL: {error}.", id="online.E001")
    except TypeError as error:
        yield checks.Error(f"{error}.", id="online.E001")


def _check_functions() -> Iterator[checks.CheckMessage]:
    hint = "It should be the dotted path of a function that takes the request, such as 'shop.visitors.user'."
    for name in FUNCTIONS:
        try:
            function(name)
        except (ImportError, TypeError) as error:
            yield checks.Error(f"{error}.", hint=hint, id="online.E002")


def _check_proxies() -> Iterator[checks.CheckMessage]:
    """Find proxies that are wrong, or those that other settings tell of and this one does not."""
    try:
        found = proxies()
    except ValueError as error:
        yield checks.Error(f"{error}.", id="online.E003")
        return
    behind = [name for name in ("SECURE_PROXY_SSL_HEADER", "USE_X_FORWARDED_HOST") if getattr(settings, name, None)]
    own = getattr(settings, "ONLINE_TRUST_PROXY", None) is not None or getattr(settings, "ONLINE_GUEST", None)
    if behind and not own and not found.is_set:
        hint = 'Set it to the networks of your proxies, such as ["10.0.0.0/8"], or to [] if REMOTE_ADDR is right.'
        problem = f"{behind[0]} tells of a proxy, and ONLINE_TRUST_PROXY does not: guests may all have its address."
        yield checks.Warning(problem, hint=hint, id="online.W004")


def _check_cookie() -> Iterator[checks.CheckMessage]:
    name = getattr(settings, "ONLINE_VISITOR_COOKIE", None)
    if name is None:
        return
    try:
        VisitorCookie(name)
    except ValueError as error:
        yield checks.Error(f"ONLINE_VISITOR_COOKIE: {error}.", id="online.E004")
    if getattr(settings, "ONLINE_GUEST", None) is not None:
        problem = "ONLINE_VISITOR_COOKIE and ONLINE_GUEST both tell guests apart."
        yield checks.Error(problem, hint="Set one of them.", id="online.E004")


def _check_middleware() -> Iterator[checks.CheckMessage]:
    if MIDDLEWARE not in settings.MIDDLEWARE:
        hint = f'Put "{MIDDLEWARE}" first in MIDDLEWARE.'
        yield checks.Warning("Page views are not reported.", hint=hint, id="online.W001")
    elif settings.MIDDLEWARE[0] != MIDDLEWARE:
        problem = f"Page views that {settings.MIDDLEWARE[0]} or others before OnlineMiddleware answer are not reported."
        hint = f'Put "{MIDDLEWARE}" first in MIDDLEWARE.'
        yield checks.Warning(problem, hint=hint, id="online.W002")


def _check_names() -> Iterator[checks.CheckMessage]:
    """Warn when the names that every visitor may see are e-mail addresses."""
    if getattr(settings, "ONLINE_USER", None) is not None or not apps.is_installed("django.contrib.auth"):
        return
    user = get_user_model()
    shown = str(getattr(user, "USERNAME_FIELD", ""))
    if shown == getattr(user, "EMAIL_FIELD", "email"):
        problem = f"Members are shown to visitors by their e-mail address, {user.__name__}.{shown}."
        hint = "Set ONLINE_USER to a function that returns another name, such as one that the member has chosen."
        yield checks.Warning(problem, hint=hint, id="online.W003")
