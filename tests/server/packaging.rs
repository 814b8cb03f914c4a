//! The systemd unit and the container's file: texts, checked for what they must say. Neither is run here.

use std::path::Path;

fn text(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tools/packaging").join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

#[test]
fn the_unit_gives_the_server_nothing_that_it_does_not_need() {
    let unit = text("lienzo.service");
    for line in [
        "ExecStart=/usr/local/bin/lienzo serve --output /var/lib/lienzo",
        "DynamicUser=yes",
        "StateDirectory=lienzo",
        "NoNewPrivileges=yes",
        "ProtectSystem=strict",
        "ProtectHome=yes",
        "PrivateTmp=yes",
        "CapabilityBoundingSet=",
        "TimeoutStopSec=15",
        "Restart=on-failure",
        "WantedBy=multi-user.target",
    ] {
        assert!(unit.lines().any(|l| l == line), "no {line}");
    }
    let sections: Vec<&str> = unit.lines().filter(|l| l.starts_with('[')).collect();
    assert_eq!(sections, ["[Unit]", "[Service]", "[Install]"]);
    for line in unit.lines().filter(|l| !l.is_empty() && !l.starts_with(['#', '['])) {
        assert!(line.contains('='), "{line}");
    }
}

#[test]
fn the_image_runs_as_nobody_and_its_server_has_a_token() {
    let image = text("Dockerfile");
    let lines: Vec<&str> = image.lines().filter(|l| !l.is_empty() && !l.starts_with('#')).collect();
    assert!(lines[0].starts_with("FROM ") && lines.iter().filter(|l| l.starts_with("FROM ")).count() == 2);
    let at = |start: &str| lines.iter().position(|l| l.starts_with(start)).unwrap_or_else(|| panic!("no {start}"));
    assert!(at("USER ") < at("ENTRYPOINT ") && at("VOLUME ") < at("ENTRYPOINT "));
    assert!(!lines[at("USER ")].contains("root") && lines.iter().all(|line| !line.contains("LIENZO_TOKEN=")));
    let entry = lines[at("ENTRYPOINT ")];
    assert!(entry.contains("\"serve\"") && entry.contains("\"--listen\", \"0.0.0.0\""), "{entry}");
    assert!(image.contains("--locked") && image.contains("STOPSIGNAL SIGTERM") && image.contains("HEALTHCHECK"));
}
