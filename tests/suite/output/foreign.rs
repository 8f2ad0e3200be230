//! Formats that others defined, against their own schemas.

use std::io::Write as _;
use std::process::{Command, Stdio as Pipe};

use serde_json::Value;
use sockwarden::finding::Report;
use sockwarden::output::Format;

use super::{PIPE, audit, hostile, report, server};

#[test]
fn sarif_is_valid_against_the_schema_of_oasis() {
    let schema: Value = serde_json::from_str(include_str!("../../schemas/sarif-schema-2.1.0.json")).unwrap();
    let validator = jsonschema::validator_for(&schema).unwrap();
    let (sample, hostile) = (server(), hostile());
    for (sample, report) in
        [(&sample, report(&sample)), (&hostile, report(&hostile)), (&sample, Report::default())]
    {
        let written = audit(sample, &report, Format::Sarif, &PIPE);
        let value: Value = serde_json::from_str(&written).unwrap();
        let faults: Vec<String> = validator
            .iter_errors(&value)
            .map(|error| format!("{}: {error}", error.instance_path()))
            .collect();
        assert!(faults.is_empty(), "{faults:#?}");
    }
    let value: Value = serde_json::from_str(&audit(&sample, &report(&sample), Format::Sarif, &PIPE)).unwrap();
    let result = &value["runs"][0]["results"][0];
    assert_eq!(result["ruleId"], "redis-exposed");
    let location = &result["locations"][0];
    assert_eq!(location["physicalLocation"]["artifactLocation"]["uri"], "rules/exposure/redis-exposed.toml");
    assert_eq!(location["logicalLocations"][0]["fullyQualifiedName"], "4026531840/tcp/0.0.0.0:6379");
    assert_eq!(result["partialFingerprints"]["sockwarden/v1"].as_str().unwrap().len(), 32);
    let suppressed: Vec<&Value> = value["runs"][0]["results"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|result| result["suppressions"].as_array().is_some_and(|list| !list.is_empty()))
        .collect();
    assert_eq!(suppressed.len(), 1);
    assert_eq!(suppressed[0]["ruleId"], "loopback-service");
}

/// Validates with libxml2, the way Jenkins' own reader would refuse a file.
#[test]
fn junit_is_valid_against_the_xsd_of_jenkins() {
    let (sample, hostile) = (server(), hostile());
    let reports = [
        audit(&sample, &report(&sample), Format::Junit, &PIPE),
        audit(&hostile, &report(&hostile), Format::Junit, &PIPE),
        audit(&sample, &Report::default(), Format::Junit, &PIPE),
    ];
    let xsd = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/schemas/junit-10.xsd");
    for report in &reports {
        let command = Command::new("xmllint")
            .args(["--noout", "--nonet", "--schema", xsd, "-"])
            .stdin(Pipe::piped())
            .stderr(Pipe::piped())
            .spawn();
        let mut child = match command {
            Ok(child) => child,
            Err(error) => {
                assert!(
                    std::env::var_os("CI").is_none_or(|ci| ci != "true"),
                    "xmllint is needed in CI: {error}"
                );
                eprintln!("skipped: xmllint (package libxml2-utils) does not start: {error}");
                return;
            }
        };
        child.stdin.take().unwrap().write_all(report.as_bytes()).unwrap();
        let done = child.wait_with_output().unwrap();
        assert!(done.status.success(), "{}\n{report}", String::from_utf8_lossy(&done.stderr));
    }
    insta::assert_snapshot!(reports[0], @r#"
    <?xml version="1.0" encoding="UTF-8"?>
    <testsuites name="sockwarden" tests="7" failures="3" errors="0">
      <testsuite name="sockwarden" tests="7" failures="3" errors="0" skipped="3" timestamp="2026-11-18T11:06:40Z" hostname="web1">
        <testcase name="redis-exposed" classname="sockwarden.exposure">
          <failure type="critical" message="redis-server takes commands on 0.0.0.0:6379 from the internet">Redis takes commands from the internet
    reach = internet
    process.name = redis-server
    fix: Bind redis to loopback
    sed -i &apos;s/^bind .*/bind 127.0.0.1/&apos; /etc/redis/redis.conf
    systemctl restart redis
    fingerprint: 06d3f4dac577453cbbd5d251365c06b1</failure>
        </testcase>
        <testcase name="replaced-binary" classname="sockwarden.processes">
          <failure type="medium" message="nginx runs an old file (2 sockets of this program: tcp 0.0.0.0:80, tcp [::]:443)">A running program was replaced on disk
    reach = internet
    process.name = redis-server
    fix: Bind redis to loopback
    sed -i &apos;s/^bind .*/bind 127.0.0.1/&apos; /etc/redis/redis.conf
    systemctl restart redis
    fingerprint: 4df4a4f1340bc5eadd5cbdee58856600</failure>
        </testcase>
        <testcase name="loopback-service" classname="sockwarden.exposure">
          <skipped message="suppressed until 2027-01-31: meant to be there"/>
        </testcase>
        <testcase name="deleted-binary" classname="sockwarden.processes">
          <skipped message="undecided: could not read process.exe_state"/>
        </testcase>
        <testcase name="nothing-of-this" classname="sockwarden.exposure"/>
        <testcase name="suppression-expired" classname="sockwarden">
          <failure type="low" message="the suppression at suppressions.toml:5 (rule old-rule) ended on 2026-01-01; nothing of what it covered is left">A suppression is past its day
    until = 2026-01-01
    reason = of the last server
    fingerprint: 1f6859e01c0f23ad03386cccfd8c8238</failure>
        </testcase>
        <testcase name="visibility" classname="sockwarden">
          <skipped message="incomplete: processes of other users: permission denied on /proc/PID/fd"/>
        </testcase>
      </testsuite>
    </testsuites>
    "#);
}
