//! Jobs that abuse the one service of the host that they can reach.

use super::{Attack, under_attack};

/// A hundred connections that say nothing, a head that never ends, a body that is announced and never comes, other
/// repositories, other methods, other hosts; then a fetch like any other.
const ABUSE: &str = r#"
cat > abuse.py <<'END'
import socket, sys
def connect(first=b""):
    s = socket.create_connection(("127.0.0.1", 9418), 20)
    try:
        s.sendall(first)
    except OSError:
        pass
    return s
def answer(first):
    s = connect(first)
    # A server that hangs up on what it did not read may take its answer with it.
    try:
        return s.recv(4096).split(b"\r\n")[0].decode("latin-1") or "closed"
    except OSError as error:
        return type(error).__name__
def refused(first):
    said = answer(first)
    return "yes" if " 4" in said or said in ("closed", "ConnectionResetError") else said
print("long=" + refused(b"GET / HTTP/1.1\r\n" + b"X-Long: " + b"a" * 100000))
print("many=" + refused(b"GET / HTTP/1.1\r\n" + b"".join(b"h%d: x\r\n" % n for n in range(1000)) + b"\r\n"))
print("garbage=" + refused(bytes(range(256)) * 4))
print("elsewhere=" + answer(b"GET http://169.254.169.254/latest/meta-data HTTP/1.1\r\nhost: x\r\n\r\n"))
print("connect=" + answer(b"CONNECT 127.0.0.1:22 HTTP/1.1\r\nhost: x\r\n\r\n"))
print("other=" + answer(b"GET /demo/other/info/refs?service=git-upload-pack HTTP/1.1\r\nhost: x\r\n\r\n"))
print("push=" + answer(b"GET /demo/hello/info/refs?service=git-receive-pack HTTP/1.1\r\nhost: x\r\n\r\n"))
print("body=" + refused(b"POST /demo/hello/git-upload-pack HTTP/1.1\r\nhost: x\r\ncontent-length: 99999999999\r\n\r\n"))
slow = [connect(b"POST /demo/hello/git-upload-pack HTTP/1.1\r\nhost: x\r\ncontent-length: 1000\r\n\r\nx") for _ in range(6)]
idle = [connect(b"GE") for _ in range(100)]
print("held=%d" % (len(slow) + len(idle)))
END
python3 abuse.py
for try in 1 2 3 4 5; do
  git ls-remote http://127.0.0.1:9418/demo/hello HEAD > refs && break
  sleep 1
done
echo "fetched=$(wc -l < refs)"
"#;

#[tokio::test(flavor = "multi_thread")]
async fn the_git_proxy_serves_on_and_nothing_but_the_repository() {
    let Some(ends) = under_attack(&[Attack { name: "abuse", profile: "linux", steps: &[ABUSE] }]).await else { return };
    let ended = &ends[0];
    assert_eq!(ended.job.verdict(), ("success", ""), "{}", ended.log);
    let keys = ["long", "many", "garbage", "elsewhere", "connect", "other", "push", "body", "held", "fetched"];
    let answers: Vec<String> = keys.iter().map(|key| format!("{key}: {}", ended.said(key))).collect();
    insta::assert_snapshot!(answers.join("\n"));
}
