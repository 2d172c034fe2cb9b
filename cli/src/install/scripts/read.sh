# Prints whether the file $path exists (there or missing), then its content.
if [ -f "$path" ]; then
  echo there
  cat "$path"
else
  echo missing
fi
