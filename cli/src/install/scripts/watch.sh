# Exits when the hive has exited, with the end of its log. Prints a line per check, which fails and ends the script when nobody reads.
lives() {
  case $manager in
    none) hive_pid >/dev/null ;;
    *) case $(control is-active "$unit_name" || true) in failed | inactive) return 1 ;; esac ;;
  esac
}
while lives; do
  echo lives
  sleep 1
done
case $manager in
  none) tail -n 5 "$log" >&2 ;;
  user) journalctl --user --unit "$unit_name" --lines 5 --output cat --no-pager >&2 ;;
  system) journalctl --unit "$unit_name" --lines 5 --output cat --no-pager >&2 ;;
esac
exit 1
