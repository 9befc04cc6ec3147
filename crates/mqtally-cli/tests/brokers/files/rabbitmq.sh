#!/bin/sh
# rabbitmq.sh PORT DIR: RabbitMQ with its MQTT plugin, alone on loopback, everything it writes in DIR.
# An epmd has to listen on loopback at ERL_EPMD_PORT, so that none is left behind as a daemon.
set -eu
export HOME="$2" ERL_EPMD_ADDRESS=127.0.0.1
export RABBITMQ_NODENAME="mqtally$1@localhost" RABBITMQ_USE_LONGNAME=false
export RABBITMQ_MNESIA_BASE="$2" RABBITMQ_LOG_BASE="$2" RABBITMQ_LOGS="$2/rabbit.log" RABBITMQ_PID_FILE="$2/pid"
export RABBITMQ_ENABLED_PLUGINS_FILE="$2/enabled_plugins" RABBITMQ_CONFIG_FILE="$2/rabbitmq.conf"
export RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS='-kernel inet_dist_use_interface {127,0,0,1}'
echo '[rabbitmq_mqtt].' >"$2/enabled_plugins"
cat >"$2/rabbitmq.conf" <<END
listeners.tcp = none
mqtt.listeners.tcp.1 = 127.0.0.1:$1
END
# Makes the server replace this shell, so that who kills this process kills the broker.
RUNNING_UNDER_SYSTEMD=true exec /usr/lib/rabbitmq/bin/rabbitmq-server
