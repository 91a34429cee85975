"""Keys for tests. None may ever appear in anything that a server prints or sends."""

#: Hard to write by accident. Half of it would be a leak, too.
CANARY = "canary-9c41"

KEY = f"{CANARY}-0123456789-abcdefghijklmnopqrstuvwxyz"
OTHER_KEY = f"{CANARY}-another-0123456789-abcdefghijklmnopq"
#: A key that someone patient can guess.
SHORT_KEY = f"{CANARY}-short"
WRONG_KEY = f"{CANARY}-wrong-0123456789-abcdefghijklmnopqrs"
