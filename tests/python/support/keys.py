"""Keys, as tests use them. None may ever be seen in anything that a server says."""

#: Hard to write by accident. Half of it would be a leak too.
CANARY = "canary-9c41"

KEY = f"{CANARY}-0123456789-abcdefghijklmnopqrstuvwxyz"
OTHER_KEY = f"{CANARY}-another-0123456789-abcdefghijklmnopq"
#: One that somebody patient can guess.
SHORT_KEY = f"{CANARY}-short"
WRONG_KEY = f"{CANARY}-wrong-0123456789-abcdefghijklmnopqrs"
