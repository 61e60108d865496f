"""Which agents are programs: one list of bots, for middleware and logs.

Not its job: what a bot is called (the server's logs, web), and bots that say they are browsers.

1. Who sends no agent is a program: every browser sends one. That an agent is *not told*, as by a log without
   the field, says nothing.
2. A browser for people stays one whatever its name holds (a telephone called Cubot, a web view inside an app).
3. Bounded: an agent is judged by its first MAX_CHARACTERS, and the last _KEPT answers are kept.
"""

import re
from functools import lru_cache

#: What tells a bot stands at the beginning.
MAX_CHARACTERS = 512

_KEPT = 4096

#: Words by which programs tell what they are, in any agent.
_ANYWHERE = re.compile(
    r"(?<!cu)bot\b|(?<!cu)bot[-_/;]|crawl|spider|slurp|headless|phantomjs|puppeteer|playwright|cypress|selenium"
    r"|synthetic|lighthouse|pagespeed|health.?check|health.?probe|healthchecker|uptime|pingdom|site24x7|statuscake"
    r"|powershell|(?:pinger|monitor|checker|probe|scraper|fetcher|validator)/|\bscan(?:ner)?\b|nuclei|nikto|sqlmap"
    r"|masscan|zgrab|nmap|netcraft|wordpress/|internal dummy"
    # A program that looks like a browser tells where to read of it, or has its name where browsers name their system.
    r"|\+ ?(?:https?://|www\.)"
    r"|\(compatible;(?! *(?:MSIE|Konqueror|iCab|OmniWeb|[AI]Browse|Net|U;|Win|X11|Linux|Mac|Intel))",
    re.IGNORECASE,
)

#: Browsers that do not begin with `Mozilla/`: of text, of old telephones, and Opera as it was.
_BROWSERS = re.compile(
    r"(?:Opera|Lynx|Links|ELinks|w3m|Dillo|NetSurf|Emacs|amaya|iCab|UCWEB|UCBrowser|JUC|BlackBerry|Nokia|SonyEricsson"
    r"|SAMSUNG|SEC-|LG[-/E]|MOT-|DoCoMo|KDDI|SoftBank|Vodafone|J-PHONE|HTC|PalmSource|NetFront|Bunjalloo|Instagram"
    r"|Silk|Ladybird|Mosaic|NCSA|Contiki|Offbyone|retawq|edbrowse)",
    re.IGNORECASE,
)

#: Programs and libraries, by words within agents that are none of browsers'.
_PROGRAMS = re.compile(
    r"http|curl|wget|fetch|request|client|library|libwww|\blwp\b|url|\bapi\b|\bsdk\b|agent(?:/|$)|monitor|probe|prob\b|check"
    r"|ping|health|watch|test|bench|load|script|python|perl|ruby|php|java\b|java/|golang|go-|\bgo\b|rust|node\b|node-"
    r"|deno\b|bun/|dart|swift|kotlin|erlang|elixir|hackney|okhttp|axios|undici|\bgot\b|guzzle|faraday|typhoeus|excon"
    r"|mechanize|scrapy|aiohttp|reqwest|hyper/|ureq|isahc|surf/|akka|netty|reactor|vert\.?x|feign|unirest|resty|colly"
    r"|postman|insomnia|bruno|hoppscotch|paw/|soapui|jmeter|gatling|locust|k6/|wrk|vegeta|siege|artillery|\bab/"
    r"|haproxy|varnish|nginx|envoy|traefik|caddy|squid|consul|monit|nagios|icinga|zabbix|prometheus|blackbox|grafana"
    r"|datadog|newrelic|dynatrace|elastic|kube|googlehc|elb-|cloudfront|cloudflare|fastly|akamai|azure|amazon|aws|stackdriver"
    r"|feed|rss|atom|reader|newswire|newsblur|podcast|aggregator|facebookexternalhit|preview|archive|index|search"
    r"|cfnetwork|collector|extractor|harvest|seo|link|claude|gpt|openai|anthropic|perplexity|\bai\b|\bllm",
    re.IGNORECASE,
)

#: What programs that tell nothing but a name are called.
_NAMES = re.compile(
    r"(?:node|ruby|java|deno|bun|got|go|lua|r|julia|wp|app|hey|oha|xh|lwp::simple|alwayson|symfony|laravel|rails|rack"
    r"|dotnet|\.net|restsharp|refit|flurl|cpp-httplib|winhttp|wininet|dalvik)(?:/.*)?",
    re.IGNORECASE,
)


def is_bot(agent: str | None, own: "re.Pattern[str] | None" = None) -> bool:
    """Tell whether an agent is a program's, not a browser's of a person.

    `agent`: the header User-Agent; "" and "-" say that none was sent, None that it is not told. `own`: a pattern of
    further bots, found anywhere. About 150 us when met for the first time.

    >>> is_bot("kube-probe/1.29"), is_bot("Lynx/2.9.0 libwww-FM/2.14"), is_bot(""), is_bot(None)
    (True, False, True, False)
    """
    if agent is None:
        return False
    agent = agent[:MAX_CHARACTERS]
    return _is_known(agent) or (own is not None and own.search(agent) is not None)


@lru_cache(_KEPT)
def _is_known(agent: str) -> bool:
    from crawleruseragents import is_crawler  # takes 10 ms to import

    agent = agent.strip()
    if agent in ("", "-") or _ANYWHERE.search(agent) or is_crawler(agent):
        return True
    if agent.startswith("Mozilla/") or _BROWSERS.match(agent):
        return False
    return _NAMES.fullmatch(agent) is not None or _PROGRAMS.search(agent) is not None
