# Tries programs that were copied, and gives their folder its name: only whole ones that run here have it.
part=$programs/$id.part
if ! "$part/rbee" --version; then
  rm -rf "$part"
  exit 1
fi
rm -rf "${programs:?}/$id"
mv "$part" "$programs/$id"
