"""The gateway: mTLS listener, REST API, EST enrolment, registry, revocation."""
