#!/bin/bash
# journal.sh DIRECTORY REQUEST…: starts a real journald in namespaces of its own (as root), with a private /run, and an agent
# whose standard error leads to it; asks the agent for each path, and prints the journal as JSON. Nothing outlives it.
set -eu
# shellcheck disable=SC2016 # The inner shells' own.
exec unshare --pid --mount --fork --mount-proc --kill-child bash -c '
  set -eu
  socket=$1/agent.sock; shift
  mount -t tmpfs tmpfs /run
  mkdir -p /run/systemd/journal /run/log/journal /run/systemd/journald.conf.d
  printf "[Journal]\nStorage=volatile\nReadKMsg=no\nAudit=no\n" >/run/systemd/journald.conf.d/test.conf
  /lib/systemd/systemd-journald >/dev/null 2>&1 &
  until [ -S /run/systemd/journal/socket ] && [ -S /run/systemd/journal/stdout ]; do sleep 0.02; done
  # As the service manager does it: the variable names the stream.
  systemd-cat sh -c "JOURNAL_STREAM=\$(stat -Lc %d:%i /proc/self/fd/2) exec strongroom agent --socket $socket" &
  until [ -S "$socket" ]; do sleep 0.02; done
  for path in "$@"; do curl -s -H "Strongroom: 1" --unix-socket "$socket" "http://x$path" >/dev/null; done
  journalctl -D /run/log/journal --sync >/dev/null 2>&1 || true
  for _ in $(seq 100); do
    journalctl -D /run/log/journal --no-pager --all -o json >"$socket.log"
    ! grep -q "the-last" "$socket.log" || break
    sleep 0.05
  done
  cat "$socket.log"
' sh "$@" </dev/null
