"""The command line: `online COMMAND`, a module for each.

    main        finds the module of a command
    serve       a server: the one place where its parts are put together
    query       ask a running server
    screen      frames for `online top`, and what keys change       -> query
    top         watch a running server on a terminal                -> query, screen
    report      what a site looked like, from its logs
    feed        logs that grow, to a server                         -> sending
    sending     hits that wait for a server
    replay      a log as live traffic
    demo        a server with a simulated site                  -> serve
"""
