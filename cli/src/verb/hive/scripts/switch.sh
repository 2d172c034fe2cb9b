# From here on these programs are the ones that start: both at once, by the renaming of one link.
rm -f "$prefix/bin.new"
ln -s "versions/$id" "$prefix/bin.new"
mv -fT "$prefix/bin.new" "$prefix/bin"
