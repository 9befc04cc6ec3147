"""A subscriber as many are written: the callback puts messages into a queue, a worker takes its time.

The library acknowledges when the callback returns, so what waits in the queue dies with the process.
"""

import json
import os
import queue
import threading
import time

import paho.mqtt.client as mqtt

WORK_S = 0.05
waiting = queue.Queue()


def work():
    while True:
        payload = waiting.get()
        time.sleep(WORK_S)
        print(json.dumps({"processed": json.loads(payload)["message_id"]}), flush=True)


client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id="naive", clean_session=False)
client.on_connect = lambda it, *_: it.subscribe(os.environ["MQTALLY_TOPIC"], qos=2)
client.on_message = lambda _client, _userdata, message: waiting.put(message.payload)
threading.Thread(target=work, daemon=True).start()
client.connect(os.environ["MQTALLY_HOST"], int(os.environ["MQTALLY_PORT"]))
client.loop_forever()
