# Starts the hive. A running hive is killed first; its workers keep running, and the next run adopts them.
if old=$(hive_pid); then
  kill -KILL "$old"
  while started "$old" >/dev/null; do moment; done
fi

case $manager in
  none)
    mkdir -p "$state"
    (
      set -a
      . "$settings"
      set +a
      exec setsid nohup "$prefix/bin/rbee" hive
    ) </dev/null >>"$log" 2>&1 &
    pid=$!
    ticks=$(started "$pid") || ticks=0
    echo "$pid $ticks" > "$pid_file.part"
    mv -f "$pid_file.part" "$pid_file"
    # Until it has become the hive, the process is a shell, setsid or nohup.
    while [ "$(started "$pid")" = "$ticks" ] && ! is_ours "$pid"; do moment; done
    ;;
  system)
    if ! id rbee >/dev/null 2>&1; then
      useradd --system --no-create-home rbee
      : > "$config/user-made"
    fi
    mkdir -p "$data"
    chown rbee: "$data"
    ;;
  user)
    if [ "$(loginctl show-user "$(id -un)" --property Linger --value 2>/dev/null)" != yes ]; then
      if loginctl enable-linger 2>/dev/null; then
        : > "$config/lingers"
      else
        echo "the hive stops when $(id -un) logs out, and does not start at boot; to change that: sudo loginctl enable-linger $(id -un)"
      fi
    fi
    ;;
esac
if [ "$manager" != none ]; then
  control daemon-reload
  control enable --quiet "$unit_name"
  # Does not wait: the caller learns from the bus that the hive has joined.
  control restart --no-block "$unit_name"
fi
