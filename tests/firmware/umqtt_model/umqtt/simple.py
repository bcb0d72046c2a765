# Stands in for micropython-lib's umqtt.simple: its constructor and methods, MQTT 3.1.1, QoS 0.
import socket
import struct


class MQTTException(Exception):
    pass


class MQTTClient:
    def __init__(self, client_id, server, port=0, *, keepalive=0, ssl=None):
        self.client_id = client_id.encode()
        self.server = server
        self.port = port
        self.keepalive = keepalive
        self.ssl = ssl
        self.sock = None
        self.cb = None

    def set_callback(self, callback):
        self.cb = callback

    def _send(self, kind, *parts):
        body = b"".join(parts)
        assert len(body) < 128
        self.sock.write(bytes((kind, len(body))) + body)

    def _receive(self):
        kind = self.sock.read(1)
        if not kind:
            raise OSError(-1)
        return kind[0], self.sock.read(self.sock.read(1)[0])

    def connect(self):
        self.sock = socket.socket()
        self.sock.connect(socket.getaddrinfo(self.server, self.port)[0][-1])
        if self.ssl:
            self.sock = self.ssl.wrap_socket(self.sock, server_hostname=self.server)
        length = struct.pack("!H", len(self.client_id))
        head = b"\x00\x04MQTT\x04\x02" + struct.pack("!H", self.keepalive)
        self._send(0x10, head, length, self.client_id)
        kind, body = self._receive()
        if kind != 0x20 or body[1]:
            raise MQTTException(body[1])

    def disconnect(self):
        self._send(0xE0)
        self.sock.close()

    def subscribe(self, topic):
        self._send(0x82, b"\0\1", struct.pack("!H", len(topic)), topic, b"\0")
        assert self._receive()[0] == 0x90

    def publish(self, topic, payload):
        self._send(0x30, struct.pack("!H", len(topic)), topic, payload)

    def wait_msg(self):
        _, body = self._receive()
        end = 2 + struct.unpack("!H", body[:2])[0]
        self.cb(body[2:end], body[end:])
