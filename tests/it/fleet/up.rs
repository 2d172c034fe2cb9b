//! `rbee up`: its lock, its server, its data.

use std::{
    fs::{self, File},
    path::Path,
    process::{Command, Output},
};

use rbee_tests::{
    fleet::{Up, signal},
    wait::{PATIENCE, eventually},
};

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Declares a model and checks that it answers.
async fn check_answer(up: &Up, model: &str) {
    let served = up.rbee(&["serve", model, "mock:tokens=3"]).await;
    assert!(served.status.success(), "{}", stderr(&served));
    let ran = up.rbee(&["run", model, "Hi", "--patience", "40s"]).await;
    assert!(ran.status.success(), "{}\n{}", stderr(&ran), up.log());
}

#[tokio::test]
async fn second_up_on_the_same_data_names_the_first_and_ends() {
    let mut up = Up::new("data");
    up.start().await;
    let (pid, server) = (up.pid(), up.server_pid());
    let second = up.command().output().expect("rbee runs");
    assert_eq!(second.status.code(), Some(75), "{}", stderr(&second));
    for part in [format!("process {pid}"), format!("NATS {}", up.url()), "HTTP http://127.0.0.1:".to_owned()] {
        assert!(stderr(&second).contains(&part), "{part} in {}", stderr(&second));
    }
    assert_eq!(up.server_pid(), server, "the server of the first was not touched");
    check_answer(&up, "m").await;
    up.stop().await;
    up.start().await;
}

#[tokio::test]
async fn killed_server_of_up_is_started_again() {
    let mut up = Up::new("data");
    up.start().await;
    check_answer(&up, "m").await;
    let killed = up.server_pid().expect("the server writes its number");
    signal(killed, "KILL");
    eventually("another server runs", PATIENCE, async || up.server_pid().is_some_and(|pid| pid != killed)).await;
    let line = format!("nats-server (process {killed}) was killed by signal 9; it is started again");
    eventually("the log says it", PATIENCE, async || up.log().contains(&line)).await;
    assert!(!Path::new(&format!("/proc/{killed}")).exists(), "the killed server was reaped");
    // A server writes its number before it listens.
    eventually("the new server answers", PATIENCE, async || up.rbee(&["models"]).await.status.success()).await;
    check_answer(&up, "m").await;
    up.stop().await;
    let last = up.server_pid();
    assert!(last.is_none_or(|pid| !Path::new(&format!("/proc/{pid}")).exists()), "the server has ended with rbee");
}

#[tokio::test]
async fn fleet_works_after_the_data_of_its_bus_was_wiped() {
    let mut up = Up::new("data");
    // The second start begins a higher term than the first one after the data is gone would without a memory.
    for _ in 0..2 {
        up.start().await;
        check_answer(&up, "m").await;
        up.stop().await;
    }
    fs::remove_dir_all(up.data().join("nats")).expect("the data is there");
    up.start().await;
    check_answer(&up, "m").await;
}

#[tokio::test]
async fn data_folder_with_a_space_works() {
    let mut up = Up::new("my \"models\"");
    up.start().await;
    check_answer(&up, "m").await;
    assert!(up.data().join("nats/jetstream").is_dir());
}

#[tokio::test]
async fn up_says_what_made_it_use_another_server() {
    let mut first = Up::new("data");
    first.start().await;
    let second = Up::new("data");
    let log = second.data().with_file_name("second.log");
    let output = File::create(&log).expect("a log");
    let mut command = second.command();
    command.env("RBEE_NATS", first.url()).args(["--name", "second"]).stdout(output);
    let mut running = command.spawn().expect("rbee starts");
    let logged = || fs::read_to_string(&log).unwrap_or_default();
    eventually("the second is up", PATIENCE, async || logged().contains("rbee is up")).await;
    assert!(logged().contains(&format!("{}, which RBEE_NATS names", first.url())), "{}", logged());
    running.kill().expect("it runs");
    running.wait().expect("it is ours");
}

/// A disk of 64 MiB at a path, which is removed when this is dropped.
struct SmallDisk<'a>(&'a Path);

impl<'a> SmallDisk<'a> {
    fn mount(at: &'a Path) -> Self {
        fs::create_dir_all(at).expect("made");
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", "size=64m", "tmpfs"]).arg(at).status();
        assert!(mounted.is_ok_and(|status| status.success()), "this test mounts a tmpfs: run it as root");
        Self(at)
    }

    /// Fills the disk; returns the file that takes the space.
    fn fill(&self) -> std::path::PathBuf {
        let path = self.0.join("fill");
        let written =
            Command::new("dd").args(["if=/dev/zero", "bs=64k"]).arg(format!("of={}", path.display())).output();
        assert!(!written.expect("dd runs").status.success(), "the disk is full");
        path
    }
}

impl Drop for SmallDisk<'_> {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0).status();
    }
}

#[tokio::test]
async fn small_disk_gets_smaller_streams_and_recovers_when_freed() {
    let mut up = Up::new("data");
    let data = up.data().to_owned();
    let disk = SmallDisk::mount(&data);
    up.start().await;
    assert!(up.log().contains("--bus-limits"), "the reduced sizes are logged: {}", up.log());
    check_answer(&up, "m").await;

    let file = disk.fill();
    let server = up.server_pid();
    eventually("the log says that the disk is full", PATIENCE, async || up.log().contains("the disk is full")).await;
    // A job that finds no room: from now on the server stores no job at all, until it is started again.
    let large = "x".repeat(100_000);
    let refused = up.rbee(&["submit", "m", &large, "--connection", "connect=1s,request=2s"]).await;
    assert!(!refused.status.success(), "nothing of that size can be stored");
    fs::remove_file(file).expect("it is there");
    eventually("the server was started again", PATIENCE, async || up.server_pid() != server).await;
    eventually("a job is answered again", PATIENCE, async || {
        up.rbee(&["run", "m", "Hi", "--patience", "10s"]).await.status.success()
    })
    .await;
    eventually("the doctor finds nothing", PATIENCE, async || up.rbee(&["doctor"]).await.status.success()).await;
    up.stop().await;
}
