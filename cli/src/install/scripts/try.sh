# Runs copied programs once and gives their folder its final name: only complete programs that run here have it.
part=$programs/$id.part
if ! "$part/rbee" --version; then
  rm -rf "$part"
  exit 1
fi
rm -rf "${programs:?}/$id"
mv "$part" "$programs/$id"
