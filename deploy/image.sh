#!/usr/bin/env bash
# Puts a built `tapedeck` and exactly what it needs into the root file system of an image: its shared libraries, name resolution, the certificates of
# the well-known authorities, one user. No shell, no package manager.
#
#   deploy/image.sh [--folder] [BINARY] [OUTPUT]
#
# BINARY   default: target/dist/tapedeck, which `cargo xtask dist` leaves
# OUTPUT   default: tapedeck-image.tar, a tar that any tool imports as an image; with --folder: a folder (deploy/Dockerfile copies it)
#
# The manifests name program and user themselves, so that a plain import is enough. The path of OUTPUT is printed; then, for example:
#   podman import --change 'ENTRYPOINT ["/usr/local/bin/tapedeck"]' --change 'CMD ["serve"]' --change 'USER 10001:10001' OUTPUT localhost/tapedeck:0.1.0
set -euo pipefail

fail() { echo "image.sh: $*" >&2; exit 1; }

as_folder=
if [ "${1:-}" = --folder ]; then as_folder=1; shift; fi
binary=${1:-target/dist/tapedeck}
output=$(realpath -m "${2:-tapedeck-image.tar}")
[ -x "$binary" ] || fail "there is no program at $binary; build it with \`cargo xtask dist\`, or name another"
[ -r /etc/ssl/certs/ca-certificates.crt ] || fail "/etc/ssl/certs/ca-certificates.crt is missing; install ca-certificates"

if [ -n "$as_folder" ]; then
  root=$output
  mkdir -p "$root"
  [ -z "$(ls -A "$root")" ] || fail "the folder $root is not empty; name another"
else
  work=$(mktemp -d)
  trap 'rm -rf "$work"' EXIT
  root=$work/root
  mkdir "$root"
fi

# One file under its own path; links are followed, so that the name that the program asks for is there.
take() { install -D -m "$2" "$1" "$root$1"; }

umask 022
install -D -m 755 "$binary" "$root/usr/local/bin/tapedeck"
strip --strip-debug "$root/usr/local/bin/tapedeck" 2>/dev/null || true

# What the loader would load for it, with the loader; and what glibc loads later, to look up names.
libraries=$(ldd "$binary")
if missing=$(grep 'not found' <<<"$libraries"); then
  fail "libraries of $binary are missing here, build it on this machine:"$'\n'"$missing"
fi
mapfile -t libraries < <(grep -oE '(=> )?/[^ ]+' <<<"$libraries" | sed 's/^=> //' | sort -u)
folder=$(dirname "$(printf '%s\n' "${libraries[@]}" | grep '/libc\.so')")
for library in "${libraries[@]}" "$folder"/libnss_{files,dns}.so.2 "$folder"/libresolv.so.2; do
  take "$library" 755
done
ldconfig -r "$root" 2>/dev/null || true

# The licences of all of these, where the package manager knows them.
if command -v dpkg-query >/dev/null; then
  for library in "${libraries[@]}"; do
    real=$(realpath "$library")
    dpkg-query --search "$real" 2>/dev/null || dpkg-query --search "${real#/usr}" 2>/dev/null || true
  done | sed 's/: .*//; s/:.*//' | sort -u | while read -r package; do
    [ -r "/usr/share/doc/$package/copyright" ] && take "/usr/share/doc/$package/copyright" 644
  done || true
fi

# The sources and licences of what is inside the program itself.
own=$(dirname "$binary")/third_party
if [ -d "$own" ]; then
  mkdir -p "$root/usr/share/doc/tapedeck"
  cp -r "$own" "$root/usr/share/doc/tapedeck/third_party"
fi

take /etc/ssl/certs/ca-certificates.crt 644
echo 'hosts: files dns' >"$root/etc/nsswitch.conf"
echo 'tapedeck:x:10001:10001::/:/sbin/nologin' >"$root/etc/passwd"
echo 'tapedeck:x:10001:' >"$root/etc/group"
mkdir -m 1777 "$root/tmp"

if [ -z "$as_folder" ]; then
  # The same program gives the same tar.
  tar --create --file "$output" --directory "$root" --sort=name --owner=0 --group=0 --numeric-owner --mtime=@0 .
fi
echo "$output"
