"""config.json and secret.json are checked before anything else runs."""

import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mtls.config import parse_config
from mtls.errors import ConfigError
from mtls.secrets import parse_secrets
from mtls.url import split_url

GOOD = {
    "schema": 1,
    "device_id": "board-1",
    "api_url": "https://gw.example:8443",
    "enrol_url": "https://gw.example:8444",
    "tsa_url": "http://gw.example:8080/tsa",
    "ntp_host": "",
    "ntp_port": 123,
    "trust_domain": "handfast.local",
    "networks": [],
}


def encode(**changes):
    return json.dumps({**GOOD, **changes}).encode()


def test_defaults_fill_what_may_be_left_out():
    config = parse_config(
        json.dumps({k: v for k, v in GOOD.items() if k not in ("ntp_port", "networks")}).encode()
    )
    assert config["ntp_port"] == 123
    assert config["networks"] == []
    assert config["telemetry_interval_s"] == 0, "the gateway says"
    assert config["watchdog_s"] == 0
    assert config["rtc"] is None


def test_networks_are_ssids_and_ethernet_ports_in_order():
    networks = [{"ethernet": "LAN8720", "mdc": 23}, "home"]
    assert parse_config(encode(networks=networks))["networks"] == networks


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("schema", 2),
        ("schema", None),
        ("device_id", ""),
        ("device_id", "-x"),
        ("device_id", "Upper"),
        ("device_id", "a" * 64),
        ("device_id", 7),
        ("api_url", "http://gw:1"),
        ("api_url", "https://"),
        ("api_url", "https://user@gw"),
        ("api_url", "https://gw:0"),
        ("api_url", "https://gw:65536"),
        ("api_url", "https://gw\r\nX: y"),
        ("enrol_url", None),
        ("tsa_url", "https://gw/tsa"),
        ("ntp_port", "123"),
        ("ntp_port", True),
        ("ntp_port", 0),
        ("trust_domain", ""),
        ("networks", "home"),
        ("networks", ["x" * 33]),
        ("networks", ["x"] * 9),
        ("networks", [{}]),
        ("networks", [{"ethernet": 1}]),
        ("networks", [7]),
        ("watchdog_s", -1),
        ("watchdog_s", 86401),
        ("watchdog_s", True),
        ("telemetry_interval_s", -1),
        ("telemetry_interval_s", 86401),
    ],
)
def test_a_bad_value_is_refused_by_name(key, value):
    with pytest.raises(ConfigError, match=key):
        parse_config(encode(**{key: value}))


@given(st.binary(max_size=300))
def test_any_bytes_are_a_config_error_or_a_config(data):
    for parse in (parse_config, parse_secrets):
        with contextlib.suppress(ConfigError):
            assert isinstance(parse(data), dict)


@pytest.mark.parametrize("raw", [b"", b"{", b"[]", b"\xff\xfe", b"x" * 5000, b"[" * 4000])
def test_a_damaged_file_says_what_to_do(raw):
    with pytest.raises(ConfigError):
        parse_config(raw)


def test_a_file_that_breaks_off_is_not_taken_for_whole(run_device):
    # With and without the line break that it ends with.
    assert run_device("cut_secrets.py") == ["52", "53"]


def test_a_secret_never_appears_in_an_error():
    for bad in ({"token": "s3cret" * 99}, {"wifi": {"home": ["s3cret"]}}, {"wifi": "s3cret"}):
        with pytest.raises(ConfigError) as caught:
            parse_secrets(json.dumps(bad).encode())
        assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "parts"),
    [
        ("https://h", ("https", "h", 443, "/")),
        ("http://h/tsa", ("http", "h", 80, "/tsa")),
        ("https://10.0.2.2:8443/v1/x", ("https", "10.0.2.2", 8443, "/v1/x")),
        ("https://[::1]:8443", ("https", "::1", 8443, "/")),
    ],
)
def test_urls_are_split_into_what_a_socket_needs(url, parts):
    assert split_url(url) == parts


@pytest.mark.parametrize("tail", ["rubbish", "8443", ":", ":x", "]:443"])
def test_what_follows_an_ipv6_literal_is_a_port_or_nothing(tail):
    with pytest.raises(ConfigError, match="port"):
        split_url(f"https://[::1]{tail}/")


@pytest.mark.parametrize("host", ["h\r\nX: y", "h\n", "h h", "h\0", "[::1\r\n]", "\x7f", "h\xfc"])
def test_a_host_that_cannot_stand_in_a_request_is_refused(host):
    with pytest.raises(ConfigError):
        split_url(f"https://{host}/")
