"""Who is online, for templates: {% load online %}.

    {% online_count %}                          people on the site, "-" when it is not known
    {% online_count "/forum/1" %}               people on a page
    {% online_kinds %}                          on this page: "2 members and 5 guests", "-" when it is not known
    {% online_kinds "/forum/1" as here %}       .members (hidden ones too), .guests, .bots, .people
    {% online_users as users %}                 the members on this page, newest first
    {% online_users "/forum/1" limit=5 guests=True as users %}
    {{ viewer|seen_ago }}                       "just now", "5 minutes ago"
    {% include "online/who.html" %}             all of that for this page
    {% online_peak as peak %}                   the most people ever online: `.people` and `.at`; nothing if not known
    {% online_visitors_today %}                 different people since midnight, "-" when it is not known
    {% online_last_seen user %}                 "just now", "2 hours ago"; nothing when it is not known

A user has `.user`, `.kind`, `.seen_at` and `.age`. Nothing is known of an empty url, such as a variable that is not
there. Who looks at the page is counted and listed with the first view, if the template has the request.
"""

import logging
from dataclasses import dataclass

from django import template
from django.conf import settings
from django.contrib.humanize.templatetags.humanize import naturaltime
from django.core.exceptions import SynchronousOnlyOperation
from django.http import HttpRequest
from django.template import Context
from django.template.exceptions import TemplateSyntaxError
from django.utils import timezone
from django.utils.timesince import timesince

from online_client.django.settings import page_url, page_views, presence
from online_client.presence import Reader
from online_client.replies import Peak, Viewer
from online_client.verbs import Name

register = template.Library()

UNKNOWN = "-"
JUST_NOW_S = 60

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class KindsHere:
    """Visitors by kind; false when they are not known."""

    members: int | str = UNKNOWN
    guests: int | str = UNKNOWN
    bots: int | str = UNKNOWN
    people: int | str = UNKNOWN

    def __bool__(self) -> bool:
        return self.people != UNKNOWN

    def __str__(self) -> str:
        if not self:
            return UNKNOWN
        counted = [f"{n} {what}{'' if n == 1 else 's'}" for n, what in self._counts() if n]
        return " and ".join(counted) or "nobody"

    def _counts(self) -> tuple[tuple[int | str, str], ...]:
        return ((self.members, "member"), (self.guests, "guest"))


@register.simple_tag(takes_context=True)
def online_count(context: Context, url: Name | None = None) -> int | str:
    """Count the people on the site or on a page; "-" when it is not known."""
    count = None if url == "" else presence().count(url, reader=_reader(context))
    return UNKNOWN if count is None else count


@register.simple_tag(takes_context=True)
def online_kinds(context: Context, url: Name | None = None) -> KindsHere:
    """Count the visitors on a page, this one unless told otherwise, by kind."""
    url = _this_page(context, "online_kinds") if url is None else url
    kinds = presence().kinds(url, reader=_reader(context)) if url else None
    if kinds is None:
        return KindsHere()
    return KindsHere(kinds.members + kinds.hidden, kinds.guests, kinds.bots, kinds.people)


@register.simple_tag(takes_context=True)
def online_users(
    context: Context, url: Name | None = None, limit: int = 30, guests: bool = False
) -> tuple[Viewer, ...]:
    """List the members on a page, this one unless told otherwise, newest first; with `guests` those too."""
    url = _this_page(context, "online_users") if url is None else url
    return presence().users(url, limit, guests=guests, reader=_reader(context)) if url else ()


@register.filter
def seen_ago(viewer: Viewer) -> str:
    """Say how long ago a viewer came to the page."""
    return "just now" if viewer.age.total_seconds() < JUST_NOW_S else f"{timesince(viewer.seen_at)} ago"


def _reader(context: Context) -> Reader | None:
    """Return who the page is for, None if nobody will be reported."""
    request = _request(context)
    if request is None:
        return None
    return page_views().reader(request, passing=(SynchronousOnlyOperation,))  # an async view cannot look at the user


def _request(context: Context) -> HttpRequest | None:
    request: HttpRequest | None = context.get("request") or getattr(context, "request", None)
    return request


@register.simple_tag
def online_peak() -> Peak | str:
    """Tell the most people ever online at once, `.people`, and when, `.at`; "" when it is not known."""
    return presence().peak() or ""


@register.simple_tag
def online_visitors_today() -> int | str:
    """Estimate how many different people came since midnight, in the current time zone; "-" when it is not known."""
    now = timezone.localtime() if settings.USE_TZ else timezone.now().astimezone()
    visitors = presence().visitors(now.replace(hour=0, minute=0, second=0, microsecond=0))
    return UNKNOWN if visitors is None else visitors


@register.simple_tag
def online_last_seen(user: object) -> str:
    """Tell how long ago a member was last seen: "just now", or as `naturaltime` words it; "" if that is not known.

    `user`: a name, or a user of Django's authentication.
    """
    name = getattr(user, "get_username", lambda: user)()
    seen = presence().last(name) if isinstance(name, str | bytes | int) and name != "" else None
    if seen is None:
        return ""
    return "just now" if seen.age.total_seconds() < JUST_NOW_S else str(naturaltime(seen.seen_at))


def _this_page(context: Context, tag: str) -> Name | None:
    """Return the page of the request, None without one: Django renders 500.html so, which should come nevertheless."""
    request = _request(context)
    if request is not None:
        return page_url(request)
    problem = f"{{% {tag} %}} does not know its page: give it a url, or render the template with the request"
    if settings.DEBUG:
        raise TemplateSyntaxError(problem)
    logger.warning(problem)
    return None
