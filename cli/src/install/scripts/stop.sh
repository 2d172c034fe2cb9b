# Stops the hive cleanly: its workers finish their jobs. Waits until it has exited, at most $patience seconds.
if [ "$manager" != none ]; then
  control disable --quiet "$unit_name" 2>/dev/null || true
  control stop "$unit_name"
elif pid=$(hive_pid); then
  ticks=$(started "$pid") || ticks=
  kill -TERM "$pid"
  limit=$(($(date +%s) + patience))
  while [ -n "$ticks" ] && [ "$(started "$pid")" = "$ticks" ]; do
    if [ "$(date +%s)" -ge "$limit" ]; then
      echo "process $pid did not exit within $patience s; nothing was removed. Check $log and try again" >&2
      exit 1
    fi
    moment
  done
fi
