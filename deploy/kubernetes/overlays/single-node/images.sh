#!/usr/bin/env bash
# Makes the servers' image of this overlay from Debian's packages and PyPI, without any image registry: RabbitMQ, MariaDB, SecantusDB and a mail
# server's library in one root file system.
#   images.sh [OUTPUT.tar]        prints the path of the tar; then, for example:
#   podman import OUTPUT.tar localhost/tapedeck-servers:bookworm
# Needs root, mmdebstrap and Python's pip.
set -euo pipefail
out=$(realpath -m "${1:-tapedeck-servers.tar}")
for tool in mmdebstrap python3; do
  command -v "$tool" >/dev/null || { echo "images.sh: $tool is missing; install it (Debian: apt-get install $tool)" >&2; exit 1; }
done
python=$(mktemp -d)
trap 'rm -rf "$python"' EXIT
python3 -m pip install --quiet --root-user-action=ignore --target "$python/secantusdb" --python-version 3.11 --only-binary=:all: secantusdb==0.7.0b3 >&2
chmod -R a+rX "$python"
# The folders are those that the volumes are mounted over.
mmdebstrap --quiet --mode=root --variant=minbase \
  --include=rabbitmq-server,mariadb-server-core,mariadb-client-core,python3,python3-aiosmtpd,ca-certificates \
  --customize-hook="copy-in $python/secantusdb /opt" \
  --customize-hook='mkdir -p "$1"/scripts "$1"/data/db "$1"/data/configdb "$1"/run/mysqld "$1"/docker-entrypoint-initdb.d "$1"/var/lib/mysql' \
  --customize-hook='echo "server:x:999:999::/tmp:/usr/sbin/nologin" >>"$1"/etc/passwd; echo "server:x:999:" >>"$1"/etc/group' \
  --customize-hook='rm -rf "$1"/var/lib/apt/lists/* "$1"/var/cache/apt/* "$1"/usr/share/doc/* "$1"/usr/share/man/*' \
  bookworm "$out" >&2
echo "$out"
