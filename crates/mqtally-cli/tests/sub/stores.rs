//! Stores that cannot be used, or not for a while.

use crate::bench::{Bench, Running, eventually, message, sub_args};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A file system of a few megabytes; gone when dropped.
struct Mount(PathBuf);

impl Mount {
    /// None where this user may not mount anything.
    fn new(path: PathBuf, size: &str) -> Option<Self> {
        fs::create_dir(&path).expect("a directory");
        let mounted = run("mount", &["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"], &path);
        mounted.then_some(Self(path))
    }

    fn is_made_read_only(&self) -> bool {
        run("mount", &["-o", "remount,ro"], &self.0)
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        run("umount", &["-l"], &self.0);
    }
}

fn run(program: &str, args: &[&str], path: &Path) -> bool {
    Command::new(program).args(args).arg(path).output().is_ok_and(|output| output.status.success())
}

#[expect(clippy::print_stderr, reason = "whoever reads the results must know what was not tested")]
fn skipped(what: &str) {
    eprintln!("SKIPPED: {what}");
}

/// A subscriber whose files cannot grow beyond some KiB, until that is lifted.
fn limited(bench: &Bench, kib: u32, args: &str) -> Running {
    let mut command = Command::new("sh");
    let script = format!("trap '' XFSZ; ulimit -S -f {}; exec \"$@\"", kib * 2);
    command.args(["-c", &script, "sh", env!("CARGO_BIN_EXE_mqtally")]);
    command.args(sub_args(&bench.broker.url(), args, &[])).current_dir(bench.directory.path());
    Running::start(&mut command)
}

fn a_megabyte_and_more() -> Vec<mqtally_proto::packet::Publish> {
    (0..30).map(|number| message(&format!("t/{number}"), vec![b'x'; 50_000])).collect()
}

#[test]
fn a_full_disk_stops_the_reading_and_loses_nothing() {
    let bench = Bench::new();
    let Some(mount) = Mount::new(bench.path("disk"), "4m") else {
        return skipped(
            "a full disk, because nothing can be mounted here; a file limit is tested in its place",
        );
    };
    let args = "-t # --keep-alive 1 --store disk/s.sub --handler sqlite:disk/s.sub?table=effect --listen 127.0.0.1:0";
    let running = bench.sub(args, &[]);
    let ballast = mount.0.join("ballast");
    let full = fs::write(&ballast, vec![0; 8 << 20]).expect_err("it is full");
    assert_eq!(full.kind(), std::io::ErrorKind::StorageFull);

    bench.publish(a_megabyte_and_more());
    running.says("not reading: the store cannot be written");
    running.says("no space left");
    // Longer than the broker waits for a sign of life.
    std::thread::sleep(std::time::Duration::from_secs(2));
    let said = running.said();
    assert!(!said.contains("connecting again"), "the connection was lost: {said}");
    assert!(bench.count_in("disk/s.sub", "SELECT count(*) FROM effect") < 30);

    // The store is as large as it was: what is freed is enough for the messages.
    fs::remove_file(&ballast).expect("it is there");
    eventually("all have an effect", || {
        bench.count_in("disk/s.sub", "SELECT count(DISTINCT topic) FROM effect") == 30
    });
    let ended = running.terminate();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let effects = bench.count_in("disk/s.sub", "SELECT count(*) FROM effect");
    assert_eq!(effects, 30, "no message has two effects");
}

#[test]
fn files_that_must_not_grow_stop_the_reading_and_lose_nothing() {
    let bench = Bench::new();
    let running = limited(&bench, 300, "-t # --handler sqlite:s.sub?table=effect");
    running.says("mqtally: subscribed to");
    bench.publish(a_megabyte_and_more());
    running.says("not reading: the store cannot be written");
    // It is opened again and again, and can be asked for that moment.
    eventually("it says that it has no numbers", || {
        running.signal("USR1");
        running.said().contains("no statistics: the store cannot be read")
    });
    let id = running.id().to_string();
    let lifted = Command::new("prlimit").args(["--fsize=unlimited", "--pid", &id]).output();
    if !lifted.is_ok_and(|output| output.status.success()) {
        skipped("lifting a file limit, because there is no prlimit here");
        running.kill();
        let next = bench.sub("-t # --handler sqlite:s.sub?table=effect", &[]);
        eventually("all have an effect", || bench.count("SELECT count(*) FROM effect") == 30);
        return drop(next);
    }
    eventually("all have an effect", || bench.count("SELECT count(*) FROM effect") == 30);
    let ended = running.terminate();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert_eq!(bench.count("SELECT count(DISTINCT topic) FROM effect"), 30);
}

#[test]
fn a_store_where_nothing_can_be_written_is_refused() {
    let bench = Bench::new();
    fs::create_dir(bench.path("directory.sub")).expect("a directory");
    // Nobody can make a file there, whoever he is.
    for store in ["/sys/kernel/s.sub", "directory.sub"] {
        let ended = bench.start(&format!("-t # --store {store}"), &[]).ended();
        assert_eq!(ended.code, Some(74), "{store}: {}", ended.stderr);
        assert_eq!(ended.stderr.lines().count(), 1, "{}", ended.stderr);
    }
    let Some(mount) = Mount::new(bench.path("disk"), "4m") else {
        return skipped("a file system that became read-only, because nothing can be mounted here");
    };
    assert_eq!(bench.sub("-t # --store disk/s.sub", &[]).terminate().code, Some(0));
    assert!(mount.is_made_read_only());
    let ended = bench.start("-t # --store disk/s.sub", &[]).ended();
    assert_eq!(ended.code, Some(74), "{}", ended.stderr);
    let expect =
        "disk/s.sub: cannot be written: --store; check the owner and mode of the file and of its directory";
    assert!(ended.stderr.contains(expect), "{}", ended.stderr);
}

#[test]
fn a_store_of_a_newer_version_is_refused_and_left_as_it_is() {
    let bench = Bench::new();
    assert_eq!(bench.sub("-t #", &[]).terminate().code, Some(0));
    let connection = rusqlite::Connection::open(bench.path("s.sub")).expect("a store");
    connection.execute_batch("PRAGMA user_version = 99").expect("written");
    drop(connection);
    let before = bench.bytes("s.sub");
    let ended = bench.start("-t #", &[]).ended();
    assert_eq!(ended.code, Some(74));
    for expect in ["s.sub: has format 99, this program reads up to ", ": --store; use the newer program"] {
        assert!(ended.stderr.contains(expect), "{}", ended.stderr);
    }
    assert_eq!(bench.run(&["dead-letter", "ls", "--store", "s.sub"]).code, Some(74));
    assert!(bench.bytes("s.sub") == before, "it was changed");
}

#[test]
fn a_store_has_one_subscriber_at_a_time() {
    let bench = Bench::new();
    let first = bench.sub("-t #", &[]);
    let ended = bench.start("-t # --client-id other", &[]).ended();
    assert_eq!(ended.code, Some(74));
    let expect = "s.sub: in use by another process: --store; stop that one, or give each its own file";
    assert!(ended.stderr.contains(expect), "{}", ended.stderr);
    bench.publish(vec![message("a", "x")]);
    first.prints("a x");
    first.kill();
    assert_eq!(bench.sub("-t #", &[]).terminate().code, Some(0), "a dead process holds nothing");
}

#[test]
fn a_file_that_is_something_else_is_left_as_it_is() {
    let bench = Bench::new();
    fs::write(bench.path("s.sub"), "a letter to a friend").expect("written");
    let ended = bench.start("-t #", &[]).ended();
    assert_eq!(ended.code, Some(74));
    assert!(ended.stderr.contains("not a store of mqtally"), "{}", ended.stderr);
    assert_eq!(bench.text("s.sub"), "a letter to a friend");
}

#[test]
fn a_store_without_its_watermark_is_refused_unless_the_loss_is_accepted() {
    let bench = Bench::new();
    bench.leave_session("-t #");
    bench.publish(vec![message("a", "x")]);
    assert_eq!(bench.start("-t # --count 1", &[]).ended().code, Some(0));
    fs::remove_file(bench.path("s.sub.mark")).expect("a watermark");
    let ended = bench.start("-t #", &[]).ended();
    assert_eq!(ended.code, Some(74));
    assert!(
        ended.stderr.contains("its watermark is missing, so a loss could not be seen"),
        "{}",
        ended.stderr
    );
    assert!(ended.stderr.contains("--accept-loss"), "{}", ended.stderr);
    let running = bench.sub("-t # --accept-loss", &[]);
    running.says("went on in spite of");
}
