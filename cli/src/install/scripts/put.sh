# Writes the input to the file $path: completely and verified, or not at all.
mkdir -p "$(dirname "$path")"
rm -f "$path.part"
(umask 077 && cat > "$path.part")
if command -v sha256sum >/dev/null; then
  found=$(sha256sum < "$path.part" | cut -c 1-64)
  if [ "$found" != "$sha256" ]; then
    rm -f "$path.part"
    echo "$path arrived with SHA-256 $found instead of $sha256: it was damaged or truncated in transit; try again" >&2
    exit 1
  fi
fi
chmod "$mode" "$path.part"
mv -f "$path.part" "$path"
