# Stands in for a stock firmware's `ssl`: contexts verify nothing unless they are told to.
import tls
from tls import CERT_NONE, PROTOCOL_TLS_CLIENT, PROTOCOL_TLS_SERVER


class SSLContext:
    def __init__(self, *args):
        self._context = tls.SSLContext(*args)
        self._context.verify_mode = CERT_NONE

    @property
    def verify_mode(self):
        return self._context.verify_mode

    @verify_mode.setter
    def verify_mode(self, value):
        self._context.verify_mode = value

    def wrap_socket(self, sock, **options):
        return self._context.wrap_socket(sock, **options)


def wrap_socket(sock, server_side=False, cert_reqs=CERT_NONE, server_hostname=None):
    context = SSLContext(PROTOCOL_TLS_SERVER if server_side else PROTOCOL_TLS_CLIENT)
    context.verify_mode = cert_reqs
    return context.wrap_socket(sock, server_side=server_side, server_hostname=server_hostname)
