# Removes an installation, and its data if $purge is yes. The record is removed last, so that an interrupted removal can be
# repeated.
if [ -n "$unit" ]; then
  rm -f "$unit"
  control daemon-reload
fi
if [ -e "$config/lingers" ]; then loginctl disable-linger || true; fi
rm -f "$prefix/bin" "$prefix/bin.new"
rm -rf "${prefix:?}/versions"
if [ "$purge" = yes ]; then
  rm -rf "${data:?}/hive-${hive:?}" "$data/logs" "$data/models"
  if [ -e "$config/user-made" ]; then userdel rbee || true; fi
fi
rm -f "$log" "$pid_file" "$pid_file.part" "$settings" "$settings.part" "$config/lingers" "$config/user-made" "$installed"
# Folders are removed only if they are empty.
for folder in "$prefix" "$data" "$state" "$config"; do
  rmdir "$folder" 2>/dev/null || true
done
