"""How long a person waits: the live page in a real browser, with the real server, measured from the outside."""
