#!/usr/bin/env bash
# Makes the Secrets that the manifests refer to. Nothing is written to a file, and no value is on any program's command line.
#
#   secrets.sh [--databases-inside] [--no-certificates]
#
# A value comes from the environment; else it stays as the cluster has it; else it is made, where that is possible. So the script may run again, and
# one value is changed by naming it alone. KUBECTL (default: kubectl) and NAMESPACE (default: the context's) say where.
#
#   MYSQL_PASSWORD                  of the MySQL user of auth-configmap        needed, unless --databases-inside
#   JWT_SECRET                      signs tokens; 32 bytes or more             made
#   MONGO_URI                       mongodb://user:password@host:27017         default: mongodb://host.minikube.internal:27017
#   RABBITMQ_USER, RABBITMQ_PASSWORD of the broker                             made. guest and guest beside the original services
#   RABBITMQ_URI                    of a broker elsewhere                      made of the two
#   GMAIL_ADDRESS, GMAIL_PASSWORD   who sends the mails; an app password       needed, unless MAILER_URL
#   MAILER_URL                      smtp+starttls://user:password@host:587, smtps://…, smtp://host:25, or log: for none
#
# --databases-inside makes also the passwords of components/in-cluster-databases, and a MONGO_URI of them. Certificates for mp3converter.com and
# rabbitmq-manager.com are made, signed by themselves, where the cluster has none: --no-certificates where cert-manager makes them.
set -euo pipefail

inside= certificates=yes
for option; do
  case $option in
    --databases-inside) inside=yes ;;
    --no-certificates) certificates= ;;
    *) sed -n '2,/^set/s/^# \{0,1\}//p' "$0" | grep -v '^set'; [ "$option" = --help ] && exit 0; exit 2 ;;
  esac
done

kubectl() { command "${KUBECTL:-kubectl}" ${NAMESPACE:+--namespace "$NAMESPACE"} "$@"; }
fail() { echo "secrets.sh: $*" >&2; exit 1; }
random() { od -An -N32 -tx1 /dev/urandom | tr -d ' \n'; }

# What the cluster has: present SECRET KEY
present() {
  kubectl get secret "$1" --ignore-not-found -o "go-template={{if .data}}{{with index .data \"$2\"}}{{. | base64decode}}{{end}}{{end}}"
}

# The value in force: value NAME SECRET KEY [DEFAULT]
value() {
  local given=${!1:-}
  [ -n "$given" ] || given=$(present "$2" "$3")
  printf %s "${given:-${4:-}}"
}

# A part of a URL may hold any character.
encoded() {
  local LC_ALL=C text=$1 i c number
  for ((i = 0; i < ${#text}; i++)); do
    c=${text:i:1}
    case $c in
      [A-Za-z0-9._~-]) printf %s "$c" ;;
      *) printf -v number %d "'$c"; printf '%%%02X' $((number & 255)) ;;
    esac
  done
}

# Makes or changes a Secret, leaving keys alone that are not named here: secret NAME KEY VALUE …
secret() {
  local name=$1 key pairs='' had
  shift
  had=$(kubectl get secret "$name" --ignore-not-found -o 'go-template={{range $k, $v := .data}}{{$k}}={{$v | base64decode}}{{"\n"}}{{end}}')
  while [ $# -gt 0 ]; do
    case $2 in *$'\n'*) fail "$1 holds a line break; give it without" ;; esac
    had=$(grep -v "^$1=" <<<"$had" || true)
    [ -z "$2" ] || pairs+="$1=$2"$'\n'
    shift 2
  done
  printf '%s\n%s\n' "$had" "$pairs" | grep . |
    kubectl create secret generic "$name" --from-env-file=/dev/stdin --dry-run=client -o yaml | kubectl apply -f -
}

kubectl get secrets -o name >/dev/null || fail "the cluster does not answer, or does not let you read Secrets; see kubectl's words above"

mysql_password=$(value MYSQL_PASSWORD auth-secret MYSQL_PASSWORD "${inside:+$(random)}")
[ -n "$mysql_password" ] || fail "MYSQL_PASSWORD is not set: give the password of the MySQL user of auth-configmap, or --databases-inside"
jwt_secret=$(value JWT_SECRET auth-secret JWT_SECRET "$(random)")

mongo_default=mongodb://host.minikube.internal:27017
if [ -n "$inside" ]; then
  mongo_password=$(value MONGO_PASSWORD mongodb-secret MONGO_INITDB_ROOT_PASSWORD "$(random)")
  mysql_root=$(value MYSQL_ROOT_PASSWORD mysql-secret MYSQL_ROOT_PASSWORD "$(random)")
  mongo_default="mongodb://tapedeck:$(encoded "$mongo_password")@mongodb:27017/?authSource=admin"
fi
mongo_uri=$(value MONGO_URI converter-secret MONGO_URI "$mongo_default")

rabbitmq_user=$(value RABBITMQ_USER rabbitmq-secret RABBITMQ_DEFAULT_USER tapedeck)
rabbitmq_password=$(value RABBITMQ_PASSWORD rabbitmq-secret RABBITMQ_DEFAULT_PASS "$(random)")
rabbitmq_uri=${RABBITMQ_URI:-}
# A new user or password makes a new address; otherwise the one that is there stays, which may be of a broker elsewhere.
[ -n "$rabbitmq_uri${RABBITMQ_USER:-}${RABBITMQ_PASSWORD:-}" ] || rabbitmq_uri=$(present converter-secret RABBITMQ_URI)
[ -n "$rabbitmq_uri" ] || rabbitmq_uri="amqp://$(encoded "$rabbitmq_user"):$(encoded "$rabbitmq_password")@rabbitmq:5672/%2f"

mailer=$(value MAILER_URL notification-secret TAPEDECK_BACKENDS_MAILER)
gmail_address=$(value GMAIL_ADDRESS notification-secret GMAIL_ADDRESS)
gmail_password=$(value GMAIL_PASSWORD notification-secret GMAIL_PASSWORD)
[ -n "$mailer" ] || { [ -n "$gmail_address" ] && [ -n "$gmail_password" ]; } ||
  fail "no way to send mails is named: set GMAIL_ADDRESS and GMAIL_PASSWORD, or MAILER_URL (log: sends none)"

secret auth-secret MYSQL_PASSWORD "$mysql_password" JWT_SECRET "$jwt_secret"
secret gateway-secret MONGO_URI "$mongo_uri" RABBITMQ_URI "$rabbitmq_uri"
secret converter-secret MONGO_URI "$mongo_uri" RABBITMQ_URI "$rabbitmq_uri"
secret notification-secret GMAIL_ADDRESS "$gmail_address" GMAIL_PASSWORD "$gmail_password" TAPEDECK_BACKENDS_MAILER "$mailer" \
  MONGO_URI "$mongo_uri" RABBITMQ_URI "$rabbitmq_uri"
secret rabbitmq-secret RABBITMQ_DEFAULT_USER "$rabbitmq_user" RABBITMQ_DEFAULT_PASS "$rabbitmq_password" \
  RABBITMQ_ERLANG_COOKIE "$(value RABBITMQ_ERLANG_COOKIE rabbitmq-secret RABBITMQ_ERLANG_COOKIE "$(random)")"
if [ -n "$inside" ]; then
  secret mysql-secret MYSQL_ROOT_PASSWORD "$mysql_root"
  secret mongodb-secret MONGO_INITDB_ROOT_USERNAME tapedeck MONGO_INITDB_ROOT_PASSWORD "$mongo_password"
fi

# A certificate signed by itself: secret NAME for HOST. Browsers warn of it; it is for trying out.
certificate() {
  [ -z "$(present "$1" tls.crt)" ] || return 0
  local key
  key=$(openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 2>/dev/null) || fail "openssl is missing; install it, or give --no-certificates"
  kubectl create secret tls "$1" --dry-run=client -o yaml --key <(printf '%s\n' "$key") \
    --cert <(openssl req -x509 -new -key <(printf '%s\n' "$key") -days 365 -subj "/CN=$2" -addext "subjectAltName=DNS:$2") |
    kubectl apply -f -
}
if [ -n "$certificates" ]; then
  certificate mp3converter-tls mp3converter.com
  certificate rabbitmq-manager-tls rabbitmq-manager.com
fi
