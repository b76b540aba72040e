#!/bin/sh
# Starts Debian's RabbitMQ as the official image would: configuration from /etc/rabbitmq, user, password and cookie from the environment.
set -eu
export HOME=/var/lib/rabbitmq RABBITMQ_NODENAME="rabbit@$(hostname)"
export RABBITMQ_CONFIG_FILE=/etc/rabbitmq/rabbitmq RABBITMQ_ENABLED_PLUGINS_FILE=/etc/rabbitmq/enabled_plugins
export RABBITMQ_MNESIA_BASE=$HOME/mnesia RABBITMQ_LOG_BASE=/tmp RABBITMQ_GENERATED_CONFIG_DIR=/tmp/config
exec /usr/lib/rabbitmq/bin/rabbitmq-server
