# Makes an image that jobs need not pull, a registry that has it for those who log in, and a list of how Docker's client is called.
set -eu
root=$(mktemp -d)
mkdir -p "$root/bin" "$root/tmp" "$root/root"
cp /bin/busybox "$root/bin/busybox"
for name in $(/bin/busybox --list); do ln -s busybox "$root/bin/$name" 2>/dev/null || :; done
for program in /usr/bin/curl /usr/bin/git /usr/lib/git-core/git-remote-http; do
	mkdir -p "$root${program%/*}"
	cp "$program" "$root$program"
	ldd "$program" | grep -o '/[^ ]*' | while read -r library; do
		mkdir -p "$root${library%/*}"
		[ -e "$root$library" ] || cp -L "$library" "$root$library"
	done
done
tar -C "$root" -c . | docker import --change 'ENV PATH=/bin:/usr/bin' --change 'CMD ["sh"]' - local/tiny:1

mkdir -p /srv/registry
docker save local/tiny:1 | tar -x -C /srv/registry
cat > /srv/registry.py <<'END'
import base64, hashlib, json, pathlib
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

ROOT = pathlib.Path("/srv/registry")
WANTED = "Basic " + base64.b64encode(b"me:well hidden").decode()


def described(kind, data):
    return {"mediaType": kind, "size": len(data), "digest": "sha256:" + hashlib.sha256(data).hexdigest()}


saved = json.loads((ROOT / "manifest.json").read_text())[0]
config = (ROOT / saved["Config"]).read_bytes()
layers = [(ROOT / layer).read_bytes() for layer in saved["Layers"]]
KIND = "application/vnd.docker.distribution.manifest.v2+json"
manifest = json.dumps({
    "schemaVersion": 2,
    "mediaType": KIND,
    "config": described("application/vnd.docker.container.image.v1+json", config),
    "layers": [described("application/vnd.docker.image.rootfs.diff.tar.gzip", layer) for layer in layers],
}).encode()
blobs = {described("", blob)["digest"]: blob for blob in [config, *layers]}


class Registry(BaseHTTPRequestHandler):
    def do_GET(self):
        name = self.path.rsplit("/", 1)[-1]
        if self.headers.get("Authorization") != WANTED:
            self.answer(401, b"", {"WWW-Authenticate": 'Basic realm="tiny"'})
        elif self.path == "/v2/":
            self.answer(200, b"{}", {})
        elif self.path.startswith("/v2/tiny/manifests/"):
            self.answer(200, manifest, {"Content-Type": KIND, "Docker-Content-Digest": described("", manifest)["digest"]})
        elif name in blobs:
            self.answer(200, blobs[name], {"Content-Type": "application/octet-stream"})
        else:
            self.answer(404, b"", {})

    do_HEAD = do_GET

    def answer(self, status, body, headers):
        self.send_response(status)
        for header in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(*header)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


ThreadingHTTPServer(("127.0.0.1", 5000), Registry).serve_forever()
END
setsid python3 /srv/registry.py </dev/null >/var/log/registry.log 2>&1 &
until curl --noproxy '*' -s -o /dev/null http://127.0.0.1:5000/; do sleep 0.1; done

install -m 666 /dev/null /var/log/docker-words
cat > /usr/local/bin/docker <<'END'
#!/bin/sh
printf '%s\n' "$*" >> /var/log/docker-words
exec /usr/bin/docker "$@"
END
chmod 0755 /usr/local/bin/docker
