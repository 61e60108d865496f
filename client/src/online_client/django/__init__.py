"""For Django: a middleware that reports page views, and template tags that tell who is online.

INSTALLED_APPS += ["online_client.django"]
MIDDLEWARE += ["online_client.django.middleware.OnlineMiddleware"]

apps                    checks of the settings
middleware              reports page views when their responses have gone
templatetags/online     {% online_count %} and {% online_users %}
settings                what the settings mean, and what they make
"""
