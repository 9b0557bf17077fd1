#!/bin/bash
# boot.sh UNITS HOME TARGET: boots a real systemd as the first process of namespaces of its own (as root), with private
# /tmp, /run and /var/tmp, the units of UNITS, and HOME where it was. Every unit needs DefaultDependencies=no: without a
# private /tmp, systemd-tmpfiles would empty the machine's. Killing unshare ends all of it.
set -eu
# shellcheck disable=SC2016 # The inner shell's own.
exec unshare --pid --mount --fork --mount-proc --cgroup --kill-child bash -c '
  set -e
  mount --make-rshared /            # systemd moves the mounts of credentials: they have to propagate
  mkdir -p "$2/.home"
  mount --bind "$2" "$2/.home"
  exec 9<"$2/.home"                 # found again once /tmp is another
  for directory in /tmp /run /var/tmp; do mount -t tmpfs -o mode=1777 tmpfs "$directory"; done
  mkdir -p "$2"
  mount --bind /proc/self/fd/9 "$2"
  exec 9<&-
  mkdir -p /run/systemd/system
  cp -r "$2/$1/." /run/systemd/system/
  exec env -i PATH="$PATH" container=other SYSTEMD_LOG_TARGET=console /lib/systemd/systemd --system --unit="$3"
' sh "$1" "$2" "$3" </dev/null
