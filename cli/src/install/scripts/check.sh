# Inspects the machine and changes nothing. Prints NAME=VALUE lines, which inspection.rs parses.
echo "system=$(uname -s)"
echo "machine=$(uname -m)"
echo "host=$(uname -n)"
echo "home=$HOME"
echo "user=$(id -u)"

existing=${where:-$HOME}
while [ ! -d "$existing" ]; do existing=$(dirname "$existing"); done
set -- $(df -Pk "$existing" | tail -n 1)
echo "disk_kib=$4"

systemd=none
if [ "$(id -u)" -eq 0 ]; then
  if [ -d /run/systemd/system ]; then systemd=system; fi
elif systemctl --user show --property Version >/dev/null 2>&1; then
  systemd=user
fi
echo "systemd=$systemd"

# Tries to connect to one of the servers. Without bash and timeout the result stays unknown, and the hive finds out itself.
reach=unknown
if command -v bash >/dev/null && command -v timeout >/dev/null; then
  for server in ${servers:-}; do
    reach=no
    if timeout 5 bash -c "exec 3<>/dev/tcp/${server%:*}/${server##*:}" 2>/dev/null; then
      reach=yes
      break
    fi
  done
fi
echo "reach=$reach"

installed=
for record in /etc/rbee/hive.installed "$HOME/.config/rbee/hive.installed"; do
  if [ -O "$record" ] && [ -r "$record" ]; then
    installed=$record
    break
  fi
done
if [ -n "$installed" ]; then
  . "$installed"
  programs=$prefix/versions
  pid_file=$HOME/.local/state/rbee/hive.pid
  echo "installed_manager=$manager"
  echo "installed_prefix=$prefix"
  echo "installed_data=$data"
  echo "installed_hive=$hive"
  echo "installed_settings=$settings_digest"
  echo "installed_unit=$unit_digest"
  current=$(readlink "$prefix/bin" || true)
  echo "installed_programs=${current##*/}"
  echo "installed_version=$("$prefix/bin/rbee" --version 2>/dev/null | head -n 1 || true)"
  if pid=$(hive_pid); then echo "installed_pid=$pid"; fi
  programs=$(readlink -f "$prefix/versions" || true)
  echo "installed_processes=$(ls -l /proc/[0-9]*/exe 2>/dev/null | grep -c -F " -> $programs/" || true)"
fi

# Printed last, so that it is delayed by nothing but the connection.
echo "clock=$(date +%s)"
