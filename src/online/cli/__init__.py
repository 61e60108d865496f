"""The command line: `online COMMAND`, a module for each.

    main        runs the module of a command                        -> arguments
    arguments   command lines: parsing and error messages
    query       ask a running server                                -> questions, answers, arguments, words
    questions   the verbs of `query`                                -> answers, arguments
    answers     answers of a server as text, tables and JSON        -> words
    top         watch a running server on a terminal                -> top_screen, signals, arguments, words
    top_screen  frames of `online top`, and its keys                -> words
    report      a summary of a site, from its logs  -> reading, survey, report_text, picture, webpage, arguments, words
    reading     logs -> hits, for reports                           -> outcomes, browsers, jobs
    jobs        several processes that work on pieces, in order
    outcomes    what happened to lines: counts, and their wording   -> words
    browsers    agents -> browsers and systems
    survey      hits -> figures                                     -> visits, stays
    stays       figures of how long users stay
    visits      rows of hits and users by day and by hour
    report_text  figures as text and JSON               -> reading, outcomes, survey, visits, axis, words
    picture     figures as SVG                                      -> survey, axis, words
    webpage     figures as one page of HTML            -> report_text, outcomes, reading, survey, stays, words
    axis        round times and numbers for axes                    -> words
    feed        logs that grow, to a server             -> sending, jobs, outcomes, signals, arguments, words
    sending     hits that wait to be sent
    replay      a log as live traffic                               -> outcomes, arguments, words
    serve       run a server: the one place where its parts are put together  -> signals, words
    history     people, hits and visitors over time                 -> picture, arguments, words
    relay       a server that only publishes hits on the bus        -> serve
    gateway     a server that asks others, each with a part of the users  -> serve
    state       what is in a state directory                        -> words
    config      the settings of a server, checked and shown         -> serve
    init        a file with all settings                            -> config
    doctor      what a running server lacks     -> health, logcheck, finding, serve, arguments, words
    health      figures of INFO -> findings                         -> finding, outcomes, words
    logcheck    the end of an access log -> findings                -> finding, outcomes, words
    finding     what was found, and what to do
    plan        what a site needs: memory, disk, machines           -> measured, arguments, words
    measured    what users, hits and questions cost
    bench       load on a running server, and how it answers        -> lanes, health, arguments, words
    lanes       requests at a rate, and when their answers came
    completion  scripts for shells, made from the parsers           -> main
    demo        a server with a simulated site                      -> serve
    signals     which signals stop a command, and which it ignores
    words       names, numbers and times, for people
"""
