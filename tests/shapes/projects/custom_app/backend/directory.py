"""Who may do what."""

KEYS = {"key-of-ada": "ada", "key-of-bob": "bob"}
HOURS = {"Oslo": "8 to 16", "Rome": "9 to 20", "Lima": "8 to 18"}
