#!/bin/bash
# Runs a command in an image's file system as the chart's security context wants it: a mount and a process
# namespace of its own, a read-only root, uid and gid 10001, no capability, no new privileges.
# Usage: unshare --mount --pid --fork --kill-child pods.sh ROOT FILES BOOKS COMMAND…; the environment is passed on.
set -eu
root=$1 files=$2 books=$3
shift 3
mount --make-rprivate /
mount --bind "$root" "$root"
mount -t proc proc "$root/proc"
mount -t tmpfs -o size=64m,mode=1777,nosuid,nodev tmp "$root/tmp"
mount -t tmpfs -o size=1m,mode=755 dev "$root/dev"
for device in null zero random urandom; do
  touch "$root/dev/$device"
  mount --bind "/dev/$device" "$root/dev/$device"
done
mkdir -p "$root/etc/tollwire"
mount -t tmpfs -o size=1m,mode=755 files "$root/etc/tollwire"
cp -r "$files/." "$root/etc/tollwire/"
chown -R root:10001 "$root/etc/tollwire"
find "$root/etc/tollwire" -type d -exec chmod 0755 {} +
find "$root/etc/tollwire" -type f -exec chmod 0440 {} +
mount -o remount,ro "$root/etc/tollwire"
mount --bind "$books" "$root/var/lib/tollwire"
mount -o remount,bind,ro "$root"
cd /
exec chroot "$root" /usr/bin/setpriv --reuid 10001 --regid 10001 --groups 10001 \
  --no-new-privs --inh-caps=-all --bounding-set=-all "$@"
