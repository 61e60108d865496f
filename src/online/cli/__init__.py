"""The command line: `online COMMAND`, a module for each.

    main        finds the module of a command                       -> arguments
    arguments   how a command line is read and refused              -> words
    query       ask a running server                                -> questions, answers, arguments, words
    questions   the verbs of `query`                                -> answers, arguments
    answers     what a server answers, as text, tables and JSON     -> words
    top         watch a running server on a terminal                -> screen, signals, arguments, words
    screen      frames for `online top`, and what keys change       -> words
    report      what a site looked like, from its logs   -> reading, survey, report_text, picture, arguments, words
    reading     logs -> hits, for reports                           -> outcomes
    outcomes    what has become of lines, counted and in words      -> words
    survey      hits -> figures                                     -> visits
    visits      hits and users by day and by hour
    report_text  figures as text and JSON               -> reading, outcomes, survey, visits, axis, words
    picture     figures as SVG                                      -> survey, axis, words
    axis        round moments and numbers                           -> words
    feed        logs that grow, to a server             -> sending, outcomes, signals, arguments, words
    sending     hits that wait for a server
    replay      a log as live traffic                               -> outcomes, arguments, words
    serve       a server: the one place where its parts are put together
    state       what is in a state directory                        -> words
    demo        a server with a simulated site                      -> serve
    signals     which signals end a command, and which it ignores
    words       names, numbers and times, as people read them
"""
