# Prints what the hive wrote last, and goes on with what it writes until the input ends: that is when nobody reads.
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
