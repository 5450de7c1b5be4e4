# Examines the cache volume, as root in a VM that is thrown away: a whole file system, that can be mounted, with at most $1
# files and directories.
set -eu

device=
for disk in /sys/block/*; do
  if [ "$(cat "$disk/serial" 2>/dev/null)" = dayfly-cache ]; then device=/dev/${disk##*/}; fi
done
if [ -z "$device" ]; then echo "no volume is attached"; exit 1; fi

# The file behind the disk was exchanged while the kernel slept.
blockdev --flushbufs "$device"
command -v e2fsck >/dev/null || exit 127
if ! e2fsck -f -n "$device" >/run/dayfly/findings 2>&1; then
  # The first finding; the rest mostly follows from it.
  grep -m 1 -v -e '^e2fsck ' -e '^Pass ' -e '^$' /run/dayfly/findings
  exit 1
fi
mkdir /run/dayfly/examined
mount -t ext4 -o ro,noload,nosuid,nodev,noexec "$device" /run/dayfly/examined
find /run/dayfly/examined -xdev -printf . >/run/dayfly/entries
entries=$(stat -c %s /run/dayfly/entries)
if [ "$entries" -gt "$1" ]; then echo "$entries files and directories, more than $1"; exit 1; fi
