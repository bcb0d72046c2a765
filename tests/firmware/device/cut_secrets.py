# Parses a secret.json cut off after each of its bytes; prints the lengths that are taken for whole.
from mtls.errors import ConfigError
from mtls.secrets import parse_secrets

WHOLE = b'{"token": "t", "wifi": {"home": "pw", "work": "pw"}}\n'

for length in range(len(WHOLE) + 1):
    try:
        parse_secrets(WHOLE[:length])
        print(length)
    except ConfigError:
        pass
