# Handfast mTLS for MicroPython: secret.json, and how a file of JSON is read
# MIT license; Copyright (c) 2026 the Handfast authors

import json

from micropython import const

from .errors import ConfigError

_MAX_BYTES = const(4096)


def _breaks_off(text):
    try:
        json.loads(text + "}")  # a whole text takes no more
    except ValueError:
        return False
    return True  # MicroPython 1.25.0 returns what there is of it


def load(data, name):
    if len(data) > _MAX_BYTES:
        raise ConfigError("%s is longer than %d bytes" % (name, _MAX_BYTES))
    try:
        text = bytes(data).decode()
        value = json.loads(text)
    except (ValueError, RuntimeError):  # not UTF-8, not JSON, or nested too deep
        raise ConfigError("%s is not JSON: provision this board again" % name)
    if not isinstance(value, dict) or _breaks_off(text):
        raise ConfigError(name + " does not hold a JSON object")
    return value


def parse_secrets(data):
    """Return {"token"?: str, "wifi": {ssid: password}}; values never appear in an error."""
    secrets = load(data, "secret.json")
    token = secrets.get("token")
    if token is not None and (not isinstance(token, str) or not 0 < len(token) <= 256):
        raise ConfigError("secret.json: token must be a string of 1 to 256 characters")
    wifi = secrets.setdefault("wifi", {})
    if not isinstance(wifi, dict) or not all(isinstance(wifi[ssid], str) for ssid in wifi):
        raise ConfigError("secret.json: wifi must map each SSID to its password")
    return secrets
