"""The server seen in a browser: a dashboard, a JSON API, metrics and health, on a port of their own.

A part of the server (serve/parts.py): it has listeners and tasks of its own, and asks verbs like any client.

    service    where it listens                                        -> conversations
    conversations  a task each, and the time for each step             -> bare, hot, reader, routes
    hot        who asks the same again and again is answered in C      -> bare, routes
    bare       a stream over a plain socket
    reader     bytes -> requests, by llhttp, with limits               -> messages
    routes     paths -> answers  -> access, asking, events, metrics, openapi, posting, public, ready, static
    ready      whether this server should be asked, or another
    access     tokens, sessions of browsers, foreign pages             -> messages
    public     what anonymous clients may read                                 -> messages
    events     channels, as server-sent events                         -> messages
    asking     verbs, asked by Python code
    questions  verbs that ask: arguments by name, answers as JSON
    posting    what is posted: JSON or MessagePack -> arguments        -> bodies, messages
    bodies     lists in bodies, piece by piece
    openapi    the API described                                       -> questions
    metrics    INFO in OpenMetrics                                     -> questions
    static     the files of the dashboard, in pages/                   -> messages
    messages   requests and responses, and how one is written
"""
