# Makes these programs the active version: both at once, by renaming one symbolic link.
rm -f "$prefix/bin.new"
ln -s "versions/$id" "$prefix/bin.new"
mv -fT "$prefix/bin.new" "$prefix/bin"
