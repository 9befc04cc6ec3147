"""The same with the one change that matters: a message is acknowledged when it is processed. QoS 1."""

import json
import os

import paho.mqtt.client as mqtt


def on_message(it, _userdata, message):
    print(json.dumps({"processed": json.loads(message.payload)["message_id"]}), flush=True)
    it.ack(message.mid, message.qos)


client = mqtt.Client(
    mqtt.CallbackAPIVersion.VERSION2, client_id="careful", clean_session=False, manual_ack=True
)
client.on_connect = lambda it, *_: it.subscribe(os.environ["MQTALLY_TOPIC"], qos=1)
client.on_message = on_message
client.connect(os.environ["MQTALLY_HOST"], int(os.environ["MQTALLY_PORT"]))
client.loop_forever()
