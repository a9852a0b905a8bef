"""A model behind HTTP: OpenAI's protocol for what writes and embeds, a route of our own for every other task.

It needs the extra ``serve``; nothing here is imported before a server is wanted.
"""
