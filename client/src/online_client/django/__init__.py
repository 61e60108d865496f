"""For Django: a middleware that reports page views, and template tags that tell who is online.

INSTALLED_APPS += ["online_client.django"]
MIDDLEWARE = ["online_client.django.middleware.OnlineMiddleware", *MIDDLEWARE]

apps                    checks of the settings
middleware              reports page views as their responses leave
templatetags/online     {% online_count %}, {% online_kinds %} and {% online_users %}
templates/online/who    a piece of page that shows all of these, to include
settings                what the settings mean, and what they make
"""
