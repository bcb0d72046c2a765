# Handfast mTLS for MicroPython: config.json and secret.json, checked before anything else runs.
# MIT license; Copyright (c) 2026 the Handfast authors

import json

from micropython import const

from .errors import ConfigError
from .url import split_url

_SCHEMA = const(1)
_MAX_BYTES = const(4096)
_MAX_VALUE_CHARS = const(256)
_MAX_NETWORKS = const(8)
_ID_FIRST = const("abcdefghijklmnopqrstuvwxyz0123456789")
_ID_REST = _ID_FIRST + "._-"


def _load(data, name):
    if len(data) > _MAX_BYTES:
        raise ConfigError("%s is longer than %d bytes" % (name, _MAX_BYTES))
    try:
        value = json.loads(bytes(data).decode())
    except (ValueError, RuntimeError):  # not UTF-8, not JSON, or nested too deep
        raise ConfigError("%s is not JSON: provision this board again" % name)
    if not isinstance(value, dict):
        raise ConfigError(name + " does not hold a JSON object")
    return value


def _bad(key, why):
    raise ConfigError("config.json: %s %s" % (key, why))


def _text(config, key, required):
    value = config.get(key)
    if value is None and not required:
        config[key] = ""
        return ""
    if not isinstance(value, str) or not 0 < len(value) <= _MAX_VALUE_CHARS:
        if required or value != "":
            _bad(key, "must be a string of 1 to %d characters" % _MAX_VALUE_CHARS)
    for char in value:
        if not 32 < ord(char) < 127:
            _bad(key, "holds a character that cannot stand there")
    return value


def _int(config, key, default, low, high):
    value = config.setdefault(key, default)
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        _bad(key, "must be a whole number from %d to %d" % (low, high))


def _url(config, key, scheme, required=True):
    value = _text(config, key, required)
    if value:
        split_url(value, (scheme,), "config.json: " + key)


def _device_id(config):
    value = config.get("device_id")
    ok = isinstance(value, str) and 0 < len(value) <= 63 and value[0] in _ID_FIRST
    if not ok or any(char not in _ID_REST for char in value):
        _bad("device_id", "must be 1 to 63 of a-z 0-9 . _ - and start with a letter or digit")


def _networks(config):
    networks = config.setdefault("networks", [])
    if not isinstance(networks, list) or len(networks) > _MAX_NETWORKS:
        _bad("networks", "must be a list of at most %d SSIDs" % _MAX_NETWORKS)
    for ssid in networks:
        if not isinstance(ssid, str) or not 0 < len(ssid.encode()) <= 32:
            _bad("networks", "must hold SSIDs of 1 to 32 bytes")


def parse_config(data):
    """Return the configuration as a dict with every key present; ConfigError names the bad one."""
    config = _load(data, "config.json")
    if config.get("schema") != _SCHEMA:
        _bad("schema", "must be %d: provision this board with a matching version" % _SCHEMA)
    _device_id(config)
    _url(config, "api_url", "https")
    _url(config, "enrol_url", "https")
    _url(config, "tsa_url", "http", required=False)
    _text(config, "ntp_host", required=False)
    _int(config, "ntp_port", 123, 1, 65535)
    _text(config, "trust_domain", required=True)
    _text(config, "root_sha256", required=False)
    _int(config, "telemetry_interval_s", 0, 0, 86400)  # 0: what the gateway says
    _networks(config)
    config.setdefault("secure_element", None)  # atecc.py checks it, on the boards that have one
    return config


def parse_secrets(data):
    """Return {"token"?: str, "wifi": {ssid: password}}; values never appear in an error."""
    secrets = _load(data, "secret.json")
    token = secrets.get("token")
    if token is not None and (not isinstance(token, str) or not 0 < len(token) <= 256):
        raise ConfigError("secret.json: token must be a string of 1 to 256 characters")
    wifi = secrets.setdefault("wifi", {})
    if not isinstance(wifi, dict) or not all(isinstance(wifi[ssid], str) for ssid in wifi):
        raise ConfigError("secret.json: wifi must map each SSID to its password")
    return secrets
