"""The host's copy of the wire constants (tests/vectors/wire.json; firmware has its own).

A test compares every name here with the vector file, so neither side can drift alone.
"""

from __future__ import annotations

TSA_POLICY_OID = "1.3.6.1.4.1.32473.7.1"
TSA_CONTENT_TYPE = "application/timestamp-query"
TSA_REPLY_CONTENT_TYPE = "application/timestamp-reply"
PROBLEM_TYPE_PREFIX = "urn:handfast:error:"
SPIFFE_TEMPLATE = "spiffe://{trust_domain}/device/{device_id}"
DEVICE_ID_PATTERN = r"[a-z0-9][a-z0-9._-]{0,62}"
CONFIG_SCHEMA = 1
