# Removes what an installation made, and the data only where $purge says so. The record of it goes last: what is cut off
# can be begun again.
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
# Folders only where they are empty.
for folder in "$prefix" "$data" "$state" "$config"; do
  rmdir "$folder" 2>/dev/null || true
done
