//! What jobs reach of other hosts, in each mode, from real machines.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::support::{Scene, Settings, WEBHOOK_SECRET};

/// A server on this host that says hello to whoever asks, and counts who does.
struct Site {
    port: u16,
    visits: Arc<AtomicUsize>,
}

impl Site {
    fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (port, visits) = (listener.local_addr().unwrap().port(), Arc::<AtomicUsize>::default());
        let counter = Arc::clone(&visits);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                counter.fetch_add(1, Ordering::SeqCst);
                greet(stream.unwrap());
            }
        });
        Self { port, visits }
    }

    fn visits(&self) -> usize {
        self.visits.load(Ordering::SeqCst)
    }
}

fn greet(mut stream: TcpStream) {
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        match stream.read(&mut byte) {
            Ok(1) => request.push(byte[0]),
            _ => return,
        }
    }
    // Whoever asked may have gone.
    stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\nConnection: close\r\n\r\nhello\n").ok();
}

/// Says what comes of asking for an address: the statuses of the answer and of the tunnel, and the first line.
const ASK: &str = r#"
ask() { key=$1; shift; rm -f body; said=$(curl -s -o body -w '%{http_code}/%{http_connect}' --max-time 60 "$@" || true); touch body; echo "$key=$said $(head -n1 body)"; }
proxied() { key=$1; shift; ask "$key" --noproxy '' -x "${PROXY:-http://127.0.0.1:3128}" "$@"; }
set +e
"#;

/// Everything that nobody shall reach, by the proxy and without it.
const OUT_OF_REACH: &str = r#"
proxied metadata http://169.254.169.254/latest/meta-data/
proxied mapped 'http://[::ffff:169.254.169.254]/'
proxied private http://10.0.0.1/
proxied spelt http://0x7f.1:PORT/
proxied name http://localhost:PORT/
proxied tunnel --proxytunnel http://localhost:PORT/
proxied forge http://localhost:FORGE/api/v3/user
PROXY=socks5h://127.0.0.1:3128 proxied socks http://localhost:PORT/
ask direct --noproxy '*' http://169.254.169.254/
ask host --noproxy '*' http://10.0.2.2/
echo "interfaces=$(ls /sys/class/net | tr '\n' ' ')"
echo "sockets=$(sudo find / -xdev -name 'control.sock' 2>/dev/null | wc -l)"
sudo sh -c 'cat /proc/*/environ /proc/*/cmdline /proc/cmdline /sys/firmware/qemu_fw_cfg/by_name/*/raw 2>/dev/null' | tr '\0' '\n'
"#;

const IN_REACH: &str = r#"
echo "variables=$http_proxy $HTTP_PROXY $HTTPS_PROXY $no_proxy"
proxied plain http://localhost:PORT/
proxied tunnel --proxytunnel http://localhost:PORT/
PROXY=socks5h://127.0.0.1:3128 proxied socks http://localhost:PORT/
proxied literal http://127.0.0.1:PORT/
proxied denied http://denied.example:PORT/
proxied other -k --connect-to other.example:PORT:localhost:PORT https://other.example:PORT/
"#;

const NOTHING: &str = r#"
echo "variables=$http_proxy$HTTP_PROXY$HTTPS_PROXY$ALL_PROXY$no_proxy"
proxied plain http://localhost:PORT/
git ls-remote http://127.0.0.1:9418/demo/hello HEAD > refs; echo "git=$(wc -l < refs)"
"#;

fn job(profile: &str, script: &str, site: &Site, forge: u16) -> String {
    let script = format!("{ASK}{script}").replace("PORT", &site.port.to_string()).replace("FORGE", &forge.to_string());
    let lines = script.lines().map(|line| format!("          {line}\n")).collect::<String>();
    format!("  {profile}:\n    runs-on: {profile}\n    env: {{HTTP_PROXY: own}}\n    steps:\n      - run: |\n{lines}")
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_reach_what_their_profile_allows_and_never_the_host() {
    let site = Site::new();
    let ports = format!("ports = [80, 443, {}]", site.port);
    let open = format!("egress = {{ {ports}, allow_addresses = [\"127.0.0.0/8\"], deny = [\"denied.example\"] }}");
    let settings = Settings::new()
        .with_profile("closed", &format!("egress = {{ {ports} }}"))
        .with_profile("open", &open)
        .with_profile("none", "egress = { mode = \"none\" }");
    let Some(scene) = Scene::start(settings).await else { return };
    let forge = url::Url::parse(&scene.forge.url()).unwrap().port().unwrap();
    let jobs = [("closed", OUT_OF_REACH), ("open", IN_REACH), ("none", NOTHING)];
    let jobs = jobs.map(|(profile, script)| job(profile, script, &site, forge)).concat();
    let pull = scene.pull_request(&format!("name: CI\non: pull_request\njobs:\n{jobs}")).await;

    let closed = scene.ended(&pull.sha, "closed").await;
    let keys = [
        "metadata",
        "mapped",
        "private",
        "spelt",
        "name",
        "tunnel",
        "forge",
        "socks",
        "direct",
        "host",
        "interfaces",
        "sockets",
    ];
    let said = |keys: &[&str], ended: &crate::support::Ended| {
        let lines: Vec<String> = keys.iter().map(|key| format!("{key}: {}", ended.said(key).trim_end())).collect();
        lines.join("\n").replace(&site.port.to_string(), "PORT").replace(&forge.to_string(), "FORGE")
    };
    insta::assert_snapshot!(said(&keys, &closed), @"
    metadata: 403/000 dayfly: `169.254.169.254:80` is an address, and not in `allow_addresses` of profile `closed`
    mapped: 403/000 dayfly: `[::ffff:169.254.169.254]:80` is an address, and not in `allow_addresses` of profile `closed`
    private: 403/000 dayfly: `10.0.0.1:80` is an address, and not in `allow_addresses` of profile `closed`
    spelt: 403/000 dayfly: `127.0.0.1:PORT` is an address, and not in `allow_addresses` of profile `closed`
    name: 403/000 dayfly: `localhost:PORT` leads to 127.0.0.1, and it is a loopback address
    tunnel: 000/403
    forge: 403/000 dayfly: `localhost:FORGE`: profile `closed` allows ports 80, 443, PORT
    socks: 000/000
    direct: 000/000
    host: 000/000
    interfaces: lo
    sockets: 0
    ");
    for secret in [WEBHOOK_SECRET, "ghs_", "PRIVATE KEY", &scene.forge.plain_token()] {
        assert!(!closed.log.contains(secret), "`{secret}` is in the machine");
    }
    let note = "note: egress: refused: `169.254.169.254:80` is an address";
    assert!(closed.log.contains(note), "{}", closed.log);

    let open = scene.ended(&pull.sha, "open").await;
    insta::assert_snapshot!(said(&["variables", "plain", "tunnel", "socks", "literal", "denied", "other"], &open), @"
    variables: http://127.0.0.1:3128 own http://127.0.0.1:3128 localhost,127.0.0.1,::1
    plain: 200/000 hello
    tunnel: 200/200 hello
    socks: 200/000 hello
    literal: 200/000 hello
    denied: 403/000 dayfly: `denied.example:PORT` is in `deny` of profile `open`, as `denied.example`
    other: 000/200
    ");
    let none = scene.ended(&pull.sha, "none").await;
    insta::assert_snapshot!(said(&["variables", "plain", "git"], &none), @"
    variables: own
    plain: 000/000
    git: 1
    ");
    assert_eq!(site.visits(), 5, "only the job that may has reached the site");

    let logged = scene.ask_json(&["egress", &open.job.id]);
    let target = format!("localhost:{}", site.port);
    let entries = logged[0]["entries"].as_array().unwrap();
    let allowed =
        entries.iter().find(|entry| entry["target"] == target.as_str() && entry["verdict"] == "allowed").unwrap();
    assert_eq!((&allowed["count"], &allowed["why"]), (&3.into(), &"*".into()), "{logged}");
    assert_eq!(allowed["address"], format!("127.0.0.1:{}", site.port));
    assert!(allowed["received"].as_u64().unwrap() > 18, "{logged}");
    let other = |entry: &&serde_json::Value| entry["why"].as_str().unwrap().contains("TLS for another server");
    assert_eq!(entries.iter().find(other).unwrap()["verdict"], "refused");
    assert!(scene.ask(&["egress", &closed.job.id, "--refused"]).contains("169.254.169.254:80"));
    assert!(scene.ask(&["job", "show", &closed.job.id]).contains("egress "));
    assert!(!scene.ask(&["job", "show", &none.job.id]).contains("egress "));
    scene.finish().await;
}
