#!/bin/sh
# Has Docker's daemon wait for the first use of its socket.
set -eu
depmod -a
install -d /usr/local/lib/dayfly
cat > /usr/local/lib/dayfly/docker-on-demand <<'END'
#!/usr/bin/python3
"""Holds Docker's socket until somebody connects, then becomes the daemon.

The daemon gets the socket as systemd would give it, so that the first client waits and is not turned away.
"""
import os
import select
import socket
import subprocess

SOCKET = "/run/docker.sock"
DATA = "/var/lib/docker"
DISK = "/run/docker-disk"


def scratch_disk():
    """The disk of this machine, by the serial number that the host gave it."""
    for name in os.listdir("/sys/block"):
        try:
            with open(f"/sys/block/{name}/serial") as serial:
                if serial.read().strip() == "dayfly-scratch":
                    return f"/dev/{name}"
        except OSError:
            continue
    raise SystemExit("the machine has no disk of its own")


def mount_data():
    """Images lie on the disk itself: an overlay cannot be made on top of the overlay that / is."""
    os.makedirs(DISK, exist_ok=True)
    os.makedirs(DATA, exist_ok=True)
    subprocess.run(["mount", "-t", "ext4", "-o", "noatime", scratch_disk(), DISK], check=True)
    os.makedirs(f"{DISK}/docker", mode=0o710, exist_ok=True)
    subprocess.run(["mount", "--bind", f"{DISK}/docker", DATA], check=True)
    subprocess.run(["umount", DISK], check=True)


listener = socket.socket(socket.AF_UNIX)
try:
    os.unlink(SOCKET)
except FileNotFoundError:
    pass
listener.bind(SOCKET)
# The machine is one job's, which may become root anyway.
os.chmod(SOCKET, 0o666)
listener.listen(128)
select.select([listener], [], [])
mount_data()
if listener.fileno() != 3:
    os.dup2(listener.fileno(), 3)
os.set_inheritable(3, True)
environment = dict(os.environ, LISTEN_FDS="1", LISTEN_PID=str(os.getpid()))
os.execvpe("dockerd", ["dockerd", "--host", "fd://", "--storage-driver", "overlay2"], environment)
END
chmod 0755 /usr/local/lib/dayfly/docker-on-demand
# Where clients look for it.
test -L /var/run || ln -sfn /run /var/run
