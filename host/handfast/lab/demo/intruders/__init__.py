"""Clients that must be turned away, among others that must not, and what the gateway says of each.

:mod:`.act` plays them; the attackers' processes (:mod:`.attacker`) know nothing of the gateway.
"""
