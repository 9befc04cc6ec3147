"""A paho-mqtt client with a persistent session: subscribes and goes away, is sent to, comes back.

paho_session.py PORT VERSION before|after; exit status 0 when everything was as it has to be.
"""

import sys
import threading

import paho.mqtt.client as mqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

LIMIT_S = 15
PER_QOS = 50


def main():
    port, version, act = int(sys.argv[1]), sys.argv[2], sys.argv[3]
    if act == "before":
        subscriber = Subscriber(version, port)
        assert not subscriber.session_present, "a session before the first connection"
        subscriber.subscribe()
        subscriber.leave()
        publish(version, port)
    else:
        subscriber = Subscriber(version, port)
        assert subscriber.session_present, "the session is gone"
        subscriber.await_all()
        subscriber.leave()


class Subscriber:
    def __init__(self, version, port):
        self.received = {1: [], 2: []}
        self.connected, self.subscribed, self.complete = (threading.Event() for _ in range(3))
        self.session_present = None
        self.client = client(version, f"paho-away-{version}", durable=True)
        self.client.on_connect = self.on_connect
        self.client.on_subscribe = lambda *_: self.subscribed.set()
        self.client.on_message = self.on_message
        connect(self.client, version, port, durable=True)
        self.client.loop_start()
        assert self.connected.wait(LIMIT_S), "no CONNACK"

    def on_connect(self, _client, _userdata, flags, reason, _properties):
        assert not reason.is_failure, reason
        self.session_present = flags.session_present
        self.connected.set()

    def on_message(self, _client, _userdata, message):
        self.received[message.qos].append(int(message.payload))
        if all(numbers and numbers[-1] == PER_QOS - 1 for numbers in self.received.values()):
            self.complete.set()

    def subscribe(self):
        self.client.subscribe("paho/+", qos=2)
        assert self.subscribed.wait(LIMIT_S), "no SUBACK"

    def await_all(self):
        assert self.complete.wait(LIMIT_S), f"incomplete: {self.received}"
        for qos, numbers in self.received.items():
            assert numbers == list(range(PER_QOS)), f"QoS {qos}: {numbers}"

    def leave(self):
        self.client.disconnect()
        self.client.loop_stop()


def publish(version, port):
    publisher = client(version, f"paho-publisher-{version}", durable=False)
    connect(publisher, version, port, durable=False)
    publisher.loop_start()
    sent = [publisher.publish(f"paho/{qos}", str(n), qos=qos) for n in range(PER_QOS) for qos in (1, 2)]
    for message in sent:
        message.wait_for_publish(LIMIT_S)
        assert message.is_published(), "not acknowledged"
    publisher.disconnect()
    publisher.loop_stop()


def client(version, client_id, durable):
    api = mqtt.CallbackAPIVersion.VERSION2
    if version == "5":
        return mqtt.Client(api, client_id=client_id, protocol=mqtt.MQTTv5)
    return mqtt.Client(api, client_id=client_id, protocol=mqtt.MQTTv311, clean_session=not durable)


def connect(mqtt_client, version, port, durable):
    if version == "5":
        properties = Properties(PacketTypes.CONNECT)
        properties.SessionExpiryInterval = 3600 if durable else 0
        mqtt_client.connect("127.0.0.1", port, clean_start=not durable, properties=properties)
    else:
        mqtt_client.connect("127.0.0.1", port)


main()
