"""Access logs: lines -> records -> page views -> hits.

    records     what a line says; times and quotes
    syslogheader  the header of a syslog message, taken off
    prefixes    what containers and others put before lines, taken off  -> syslogheader, records
    jsonlines   lines of JSON -> records                            -> prefixes, records
    logformat   a `LogFormat` of Apache -> a reader of its lines    -> prefixes, records
    formats     lines -> records, by the name of the format         -> jsonlines, logformat, prefixes, records
    rules       which requests are page views, and who the user is: the settings
    pages       records -> page views                               -> rules, records
    lines       pieces of a log -> lines
    packing     what a log is packed with, and its bytes again
    hitlog      whole logs -> hits                                  -> formats, jsonlines, lines, packing, records
    rotation    where a log's files are after they were renamed, copied or packed  -> packing
    follow      logs that grow, through rotation                    -> hitlog, lines, packing, rotation
    places      how far each log was sent, to a file and back       -> follow, rotation
"""
