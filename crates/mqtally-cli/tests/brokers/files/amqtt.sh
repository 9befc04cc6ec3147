#!/bin/sh
# amqtt.sh PROGRAM PORT DIR [anonymous]: amqtt on loopback, with the plugins of its default configuration and without
# logging every packet. Unless clients are anonymous they have to give a user name, any.
set -eu
allow=false
[ "${4:-}" = anonymous ] && allow=true
cat >"$3/broker.yaml" <<END
listeners:
  default:
    type: tcp
    bind: 127.0.0.1:$2
plugins:
  amqtt.plugins.authentication.AnonymousAuthPlugin:
    allow_anonymous: $allow
  amqtt.plugins.sys.broker.BrokerSysPlugin:
    sys_interval: 20
END
exec "$1" -c "$3/broker.yaml"
