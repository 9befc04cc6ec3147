//! Somebody's own client under test: how it is started, what it prints or posts.

use super::Entry;

pub(super) const ENTRIES: &[Entry] = &[Entry {
    words: &["subject", "subject-sub", "subject-pub", "client-under-test"],
    title: "judge your own client program",
    text: "\
`mqtally test --subject-sub COMMAND` and `--subject-pub COMMAND` run your program behind the fault proxy and judge it: by its packets (R12, O5, F6, S12) and by what it prints or posts (A1 to A5). It is cut in each phase of the QoS 1 and 2 handshakes, killed with kill -9 and started again; its session is taken over, and lost once; it gets a PUBREL that it knows nothing of; a broker that we started is stopped and killed under it. The seed decides when. The broker is judged too.
Words of the command are cut as in a shell, but no shell runs. These are filled in, and stand in the environment:
  {host} {port} {url} MQTALLY_HOST, _PORT, _URL .. the proxy: connect there, again and again
  {topic}             MQTALLY_TOPIC .............. subscriber: a filter; publisher: a topic. Others are served too
  {username} {password} MQTALLY_USERNAME, _PASSWORD  those of the broker's URL
  {report_url}        MQTALLY_REPORT_URL ......... where it can post what it would print: POST, a line a message; 204 says that it counts
  {dir}               MQTALLY_DIR ................ a directory that outlives the process, for its data
A subscriber gets JSON: `message_id` is a number, `content` reads mqtally-1a2b3c4d-17. On standard output it says what became of a message, a line each, flushed when the effect is safe:
  {\"received\": 17}    or processed, duplicate, failed; or in words: received 17
A line of other words that contains the content or the payload counts as processed, once a line, until the program speaks as above. A publisher says {\"published\": ID} when the acknowledgement has come; ID is the `message_id` or `id` of its JSON payload, or the whole payload. Every message has a payload of its own. --subject-wire-only judges a program that prints nothing.
A subscriber in Python (paho-mqtt 2):
  import json, os, paho.mqtt.client as mqtt
  client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, \"alarm-7\", clean_session=False, manual_ack=True)
  client.on_connect = lambda c, *_: c.subscribe(os.environ[\"MQTALLY_TOPIC\"], qos=1)
  def on_message(c, _, message):
      # process it here, then say so, then acknowledge
      print(json.dumps({\"received\": json.loads(message.payload)[\"message_id\"]}), flush=True)
      c.ack(message.mid, message.qos)
  client.on_message = on_message
  client.connect(os.environ[\"MQTALLY_HOST\"], int(os.environ[\"MQTALLY_PORT\"]))
  client.loop_forever()
In a shell (what it prints is the payload):
  mqtally test --subject-sub 'mosquitto_sub -h {host} -p {port} -t {topic} -q 1 -c -i alarm-7'
A program that does not connect, subscribe or publish, or prints nothing that names a message, is unknown, never kept; the report says why.",
}];
