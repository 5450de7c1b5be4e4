//! Named caches with real VMs: how a generation is made, and that no job changes what another one sees.
#![allow(clippy::unwrap_used)]

mod bench;
mod crashes;
mod hostile;
mod service;

use dayfly::caches::Published;
use dayfly::config::CacheMode;

use self::bench::{Bench, TARGET};

#[tokio::test(flavor = "multi_thread")]
async fn a_generation_is_filled_examined_and_seen_by_jobs() {
    let Some(bench) = Bench::open().await else { return };
    let fill = format!(
        "set -e; cd {TARGET}; stat -c 'place %U %a' .; test -z \"$(ls -A)\"; mkdir -p a/b; echo first >a/b/file; \
         head -c 3000000 /dev/urandom >big; rm big; chmod 4755 a/b/file; chown -R runner a; sleep 1000 >late &"
    );
    let published = bench.produce("key-1", 1, &fill).await.unwrap();
    let Published::Generation(generation) = published else { panic!("{published:?}") };
    assert_eq!((generation.info.number, generation.info.key.as_str()), (1, "key-1"));
    assert!(generation.info.bytes < 2 << 20, "{} bytes: what was deleted takes no room", generation.info.bytes);

    let seen = bench
        .use_it(CacheMode::ReadOnly, &format!("cat {TARGET}/a/b/file; touch {TARGET}/new 2>&1 || echo refused"))
        .await;
    assert!(seen.starts_with("first\n") && seen.ends_with("refused\n"), "{seen}");
    let overlay = "set -e; cd /deps; stat -c 'place %U %a' .; echo mine >a/b/file; touch new; rm late; su runner -c 'touch of-runner'; cat a/b/file; ls";
    let seen = bench.use_it(CacheMode::Overlay, overlay).await;
    assert_eq!(seen, "place runner 755\nmine\na\nnew\nof-runner\n");
    let seen = bench.use_it(CacheMode::Overlay, "cat /deps/a/b/file; ls /deps").await;
    assert_eq!(seen, "first\na\nlate\n", "what was written died with its VM");
    bench.finish();
}
