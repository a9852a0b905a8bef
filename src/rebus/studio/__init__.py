"""The Studio: a page in the browser to ask, explore, train, compare and follow a model, in English or Chinese.

It needs the extra ``studio``; only ``rebus studio`` imports what is in here. Nothing is fetched from anywhere: fonts
are the reader's own, scripts come from the server.
"""
