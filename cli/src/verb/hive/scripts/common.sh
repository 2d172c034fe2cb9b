# What every script begins with. It is given its words as environment variables; plan.rs and place.rs say which.
#
# No script holds a single quote or a backslash: ssh.rs puts it between single quotes for whatever shell the user has.
set -eu
LC_ALL=C
XDG_RUNTIME_DIR=${XDG_RUNTIME_DIR:-/run/user/$(id -u)}
export LC_ALL XDG_RUNTIME_DIR
umask 022
cd "$HOME"

unit_name=rbee-hive.service

# systemctl of the systemd that has the hive.
control() {
  case $manager in
    system) systemctl "$@" ;;
    user) systemctl --user "$@" ;;
  esac
}

# When process $1 started, in ticks since boot; fails where it has ended, also where nobody has reaped it.
# Field 22 of /proc/PID/stat (proc_pid_stat(5)); the name before it may hold anything.
started() {
  stat=$(cat "/proc/$1/stat" 2>/dev/null) || return 1
  set -- ${stat##*) }
  case $1 in Z | X) return 1 ;; esac
  echo "${20}"
}

# Whether the program of process $1 is one that was installed here.
is_ours() {
  case $(readlink "/proc/$1/exe" 2>/dev/null) in
    "$(readlink -f "$programs")"/*) return 0 ;;
    *) return 1 ;;
  esac
}

# The process of the hive. Its number alone may be a stranger by now: when it started and what it runs has to be the same.
hive_pid() {
  case $manager in
    none)
      [ -r "$pid_file" ] || return 1
      read -r pid ticks < "$pid_file" || return 1
      [ "$(started "$pid")" = "$ticks" ] || return 1
      is_ours "$pid" || return 1
      ;;
    *)
      pid=$(control show --property MainPID --value "$unit_name" 2>/dev/null) || return 1
      [ "${pid:-0}" -gt 0 ] || return 1
      ;;
  esac
  echo "$pid"
}

# Pauses for a moment; some systems know whole seconds only.
moment() {
  sleep 0.1 2>/dev/null || sleep 1
}
