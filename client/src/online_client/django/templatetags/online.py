"""Who is online, for templates: {% load online %}.

    {% online_count %}                          people on the site, nothing when it is not known
    {% online_count "/forum/1" %}               people on a page
    {% online_users as users %}                 the members on this page, newest first
    {% online_users "/forum/1" limit=5 guests=True as users %}

A user has `.user`, `.kind`, `.seen_at` and `.age`. Nothing is known of an empty url, such as a variable that is not
there.
"""

import logging

from django import template
from django.conf import settings
from django.template import Context
from django.template.exceptions import TemplateSyntaxError

from online_client.django.settings import page_url, presence
from online_client.replies import Viewer
from online_client.verbs import Name

register = template.Library()

logger = logging.getLogger(__name__)


@register.simple_tag
def online_count(url: Name | None = None) -> int | str:
    """Count the people on the site or on a page; "" when it is not known."""
    count = None if url == "" else presence().count(url)
    return "" if count is None else count


@register.simple_tag(takes_context=True)
def online_users(
    context: Context, url: Name | None = None, limit: int = 30, guests: bool = False
) -> tuple[Viewer, ...]:
    """List the members on a page, this one unless told otherwise, newest first; with `guests` those too."""
    url = _this_page(context) if url is None else url
    return presence().users(url, limit, guests=guests) if url else ()


def _this_page(context: Context) -> Name | None:
    """Return the page of the request, None without one: Django renders 500.html so, which should come nevertheless."""
    request = context.get("request") or getattr(context, "request", None)
    if request is not None:
        return page_url(request)
    problem = "{% online_users %} does not know its page: give it a url, or render the template with the request"
    if settings.DEBUG:
        raise TemplateSyntaxError(problem)
    logger.warning(problem)
    return None
