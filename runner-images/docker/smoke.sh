#!/bin/sh
# A job that shows that the image works: an image is made of the machine's own programs, and run in containers, without a network.
set -eu
trap 'test $? = 0 || { sudo cat /var/log/dockerd.log; lsmod; } >&2' EXIT
mkdir -p root/bin root/tmp
for program in /bin/sh /bin/cat /bin/ls /bin/hostname; do
	cp "$program" root/bin/
	ldd "$program" | grep -o '/[^ ]*' | while read -r library; do
		mkdir -p "root$(dirname "$library")"
		cp -n "$library" "root$library"
	done
done
tar -C root -c . | docker import - local/tiny:1
test "$(docker run --rm local/tiny:1 /bin/sh -c 'echo in a container')" = 'in a container'
# A container with a network of its own, written files, a limit, and an image made from it that is saved and loaded again.
docker run --name one --memory 64m local/tiny:1 /bin/sh -c 'echo kept > /tmp/kept'
docker commit one local/kept:1 >/dev/null
docker save local/kept:1 | docker load
test "$(docker run --rm local/kept:1 /bin/cat /tmp/kept)" = kept
docker info --format 'docker {{.ServerVersion}} with {{.Driver}} works'
