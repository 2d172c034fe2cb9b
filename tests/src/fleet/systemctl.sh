#!/bin/sh
# As much of `systemctl --user` as an installation asks for: one unit, whose process is started as the unit says.
set -eu
[ "$1" = --user ] && shift
unit="$HOME/.config/systemd/user/rbee-hive.service"
pid_file="$HOME/.unit.pid"

lives() {
  [ -r "$pid_file" ] || return 1
  pid=$(cat "$pid_file")
  stat=$(cat "/proc/$pid/stat" 2>/dev/null) || return 1
  case ${stat##*) } in [ZX]*) return 1 ;; esac
}

case $1 in
  show)
    case $* in
      *MainPID*) if lives; then echo "$pid"; else echo 0; fi ;;
      *) echo "Version=255" ;;
    esac
    ;;
  restart)
    command=$(sed -n "s/^ExecStart=//p" "$unit")
    (
      set -a
      . "$(sed -n "s/^EnvironmentFile=//p" "$unit")"
      eval "$(sed -n "s/^Environment=//p" "$unit")"
      set +a
      exec setsid nohup $command
    ) </dev/null >>"$HOME/.unit.log" 2>&1 &
    echo $! > "$pid_file"
    ;;
  stop)
    if lives; then
      kill -TERM "$pid"
      while lives; do sleep 0.1; done
    fi
    ;;
  is-active) if lives; then echo active; else echo failed; fi ;;
esac
