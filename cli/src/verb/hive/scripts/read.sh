# Prints what the file $path holds, after a line that says whether it is there.
if [ -f "$path" ]; then
  echo there
  cat "$path"
else
  echo missing
fi
