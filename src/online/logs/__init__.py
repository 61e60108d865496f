"""Access logs: lines -> records -> page views -> hits.

    records     what a line says about a request; times, addresses, quotes
    syslogheader  removes the header of a syslog message
    prefixes    removes what containers and others put before lines  -> syslogheader, records
    jsonlines   JSON lines -> records                               -> prefixes, records
    logformat   a `LogFormat` of Apache -> a reader of its lines    -> prefixes, records
    formats     lines -> records, by the name of the format         -> jsonlines, logformat, prefixes, records
    rules       which requests are page views, and who the user is: the settings
    pages       records -> page views                               -> rules, records, syslogheader, lines
    lines       chunks of a log -> lines
    packing     recognises and decompresses compressed logs
    dumps       lines of `online state dump` -> hits and leaves     -> jsonlines
    hitlog      whole logs -> hits                         -> dumps, formats, jsonlines, lines, packing, records
    rotation    finds the files of a log after a rotation           -> packing
    follow      follows logs that grow, through rotation            -> hitlog, lines, packing, rotation
    places      saves how far each log was sent                     -> follow, rotation
"""
