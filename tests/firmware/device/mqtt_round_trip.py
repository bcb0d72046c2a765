# Publishes to itself with the MQTT example and prints what came back, or the error's name.
# argv: store root, port, folder of the examples, folder of the umqtt model.
import sys

sys.path.extend(sys.argv[3:5])
import mqtt
import mtls
from mtls import ssl

root, port = sys.argv[1], int(sys.argv[2])
store = mtls.Store(root)
if not store.current():
    mqtt.ssl.context = lambda store, context=ssl.context: context(store, None)
try:
    client = mqtt.connect(store, "127.0.0.1", port)
    client.set_callback(lambda topic, payload: print(topic.decode(), payload.decode()))
    client.subscribe(b"devices/#")
    mqtt.report(client, store, b"42")
    client.wait_msg()
    client.disconnect()
except (OSError, ValueError) as error:
    print(type(error).__name__)
