//! A disk that fails under what operators ask of it.

use super::*;

/// The code and status of what operators ask for.
fn post(slow: &Slow, path: &str, body: &str) -> (u16, Value) {
    let (mut stream, len) = (slow.connect(), body.len());
    let head = format!("POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-length: {len}\r\n");
    write!(stream, "{head}\r\n{body}").unwrap();
    let (status, _, said) = answer(&mut stream);
    (status, said["code"].clone())
}

#[test]
fn a_disk_that_fails_again_and_again_is_left_alone_until_its_breaker_is_reset() {
    let _alone = SIGNALS.lock().unwrap_or_else(PoisonError::into_inner);
    let slow = Slow::with("[checkpoint]\nto = '/checkpoints'\n[health]\nevery_ms = 100\n");
    let disk = SimFs::new(7);
    let node = serve_on(&disk, &slow);
    slow.until(|| put(&mut slow.connect(), "k").0 == 200);
    let checkpoint = |n: u32| post(&slow, "/v1/checkpoint", &format!("{{\"name\":\"c{n}\"}}"));
    let check = || ask(&mut slow.connect(), "/health/detailed").2["checks"]["disk"].clone();
    assert_eq!(checkpoint(0).0, 200);
    slow.until(|| check()["status"] == "healthy");

    disk.inject(FaultPlan::new(SimOp::Link, Fault::Io).sticky());
    for n in 1..6 {
        let refused = checkpoint(n);
        assert!(refused.0 >= 500 && refused.1 != "BreakerOpen", "{n}: {refused:?}");
        // That it still says how full it is, is no success.
        thread::sleep(Duration::from_millis(250));
    }
    disk.clear_faults();
    for path in ["/v1/flush", "/v1/compact", "/v1/scrub"] {
        assert_eq!(post(&slow, path, "").1, "BreakerOpen", "{path}");
    }
    assert_eq!(checkpoint(6).1, "BreakerOpen");
    slow.until(|| check()["status"] == "degraded");
    assert_eq!(put(&mut slow.connect(), "goes-on").0, 200);

    assert_eq!(post(&slow, "/v1/breakers/disk/reset", "").0, 200);
    for path in ["/v1/flush", "/v1/compact", "/v1/scrub"] {
        assert_eq!(post(&slow, path, "").0, 200, "{path}");
    }
    assert_eq!(checkpoint(7).0, 200);
    slow.until(|| check()["status"] == "healthy");
    stop();
    node.join().unwrap().unwrap();
}
