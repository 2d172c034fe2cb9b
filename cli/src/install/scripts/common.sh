# Prelude of every script. Its inputs are environment variables; layout.rs and execute.rs name them.
#
# No script contains a single quote or a backslash, because ssh.rs quotes it with single quotes for the login shell of the user.
set -eu
LC_ALL=C
XDG_RUNTIME_DIR=${XDG_RUNTIME_DIR:-/run/user/$(id -u)}
export LC_ALL XDG_RUNTIME_DIR
umask 022
cd "$HOME"

unit_name=rbee-hive.service

# systemctl for the systemd instance that manages the hive.
control() {
  case $manager in
    system) systemctl "$@" ;;
    user) systemctl --user "$@" ;;
  esac
}

# Prints the start time of process $1 in ticks since boot. Fails if the process has exited, also if it is a zombie.
# Field 22 of /proc/PID/stat (proc_pid_stat(5)); the name field before it may contain anything.
started() {
  stat=$(cat "/proc/$1/stat" 2>/dev/null) || return 1
  set -- ${stat##*) }
  case $1 in Z | X) return 1 ;; esac
  echo "${20}"
}

# Succeeds if process $1 runs a program of this installation.
is_ours() {
  case $(readlink "/proc/$1/exe" 2>/dev/null) in
    "$(readlink -f "$programs")"/*) return 0 ;;
    *) return 1 ;;
  esac
}

# Prints the process number of the hive. The number may have been reused, so start time and program are compared too.
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

# Pauses briefly; some systems support whole seconds only.
moment() {
  sleep 0.1 2>/dev/null || sleep 1
}
