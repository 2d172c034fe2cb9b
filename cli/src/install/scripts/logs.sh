# Prints the end of the log of the hive. With $follow it keeps printing until the input closes, which means that nobody reads.
case $manager in
  none) set -- tail -n "$lines" "$log" ;;
  user) set -- journalctl --user --unit "$unit_name" --lines "$lines" --no-pager ;;
  system) set -- journalctl --unit "$unit_name" --lines "$lines" --no-pager ;;
esac
if [ "$follow" = no ]; then exec "$@"; fi
case $manager in
  none) "$@" -F & ;;
  *) "$@" --follow & ;;
esac
cat >/dev/null
kill $!
