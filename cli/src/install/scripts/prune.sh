# Removes the programs of earlier versions. Workers that still run them keep running.
for folder in "$programs"/*; do
  if [ "$folder" != "$programs/$id" ]; then rm -rf "$folder"; fi
done
