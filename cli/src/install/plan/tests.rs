use super::{Step::*, *};

fn found() -> TrailVerifier {
    TrailVerifier {
        system: "Linux".to_owned(),
        machine: "x86_64".to_owned(),
        host: "attic".to_owned(),
        home: "/home/pi".to_owned(),
        manager: ServiceManager::User,
        free: ByteSize(1 << 30),
        reach: BusReach::Yes,
        clock: Duration::from_secs(1000),
        installed: None,
    }
}

fn installed(pid: Option<u32>) -> Installed {
    Installed {
        layout: Layout::new(ServiceManager::User, "/home/pi", None, None),
        hive: "attic".parse().expect("a name"),
        programs: Some("v1".to_owned()),
        version: "rbee 1".to_owned(),
        settings: "s1".to_owned(),
        unit: "u1".to_owned(),
        pid,
        processes: 0,
    }
}

fn desired() -> Desired {
    Desired {
        hive: "attic".parse().expect("a name"),
        programs: "v1".to_owned(),
        machine: "x86_64",
        bytes: 100 << 20,
        settings: "s1".to_owned(),
        unit: "u1".to_owned(),
    }
}

fn seen(host: &str, pid: u32) -> HiveRecord {
    let record = format!(r#"{{"epoch":7,"version":"1","host":"{host}","first_port":1,"last_port":2,"pid":{pid}}}"#);
    serde_json::from_str(&record).expect("a record")
}

fn with(installed: Installed) -> TrailVerifier {
    TrailVerifier { installed: Some(installed), ..found() }
}

fn check_install(found: TrailVerifier, desired: Desired, seen: Option<HiveRecord>, expected: Result<&[Step], &str>) {
    match (install(&found, &desired, seen.as_ref(), "nats://one:4222"), expected) {
        (Ok(steps), Ok(expected)) => assert_eq!(steps, expected, "{found:?} {desired:?}"),
        (Err(refusal), Err(words)) => assert!(refusal.to_string().contains(words), "{refusal}"),
        (decided, expected) => panic!("{decided:?} and not {expected:?}: {found:?}"),
    }
}

#[test]
fn a_complete_installation_needs_no_steps() {
    let all = [Begin, Copy, Write, Switch, Start, Join];
    check_install(found(), desired(), None, Ok(&all));
    check_install(with(installed(Some(42))), desired(), Some(seen("attic", 42)), Ok(&[]));
}

#[test]
fn only_differences_are_applied() {
    let runs = || with(installed(Some(42)));
    let on_bus = || Some(seen("attic", 42));
    let newer = || Desired { programs: "v2".to_owned(), ..desired() };
    let other_settings = || Desired { settings: "s2".to_owned(), ..desired() };
    check_install(runs(), newer(), on_bus(), Ok(&[Copy, Switch, Start, Join, Prune]));
    check_install(runs(), other_settings(), on_bus(), Ok(&[Write, Start, Join]));
    check_install(runs(), Desired { unit: "u2".to_owned(), ..desired() }, on_bus(), Ok(&[Write, Start, Join]));
    // Not running; running but not on the bus; the bus still has the previous run.
    check_install(with(installed(None)), desired(), None, Ok(&[Start, Join]));
    check_install(runs(), desired(), None, Ok(&[Start, Join]));
    check_install(with(installed(Some(43))), desired(), on_bus(), Ok(&[Start, Join]));
    // Interrupted before the programs were copied.
    let cut_off = Installed { programs: None, settings: String::new(), unit: String::new(), ..installed(None) };
    check_install(with(cut_off), desired(), None, Ok(&[Copy, Write, Switch, Start, Join, Prune]));
}

#[test]
fn unsuitable_machines_are_refused_with_a_remedy() {
    let machine = |machine: &str| TrailVerifier { machine: machine.to_owned(), ..found() };
    check_install(TrailVerifier { system: "Darwin".to_owned(), ..found() }, desired(), None, Err("needs Linux"));
    check_install(machine("aarch64"), desired(), None, Err("--programs"));
    check_install(machine("amd64"), desired(), None, Ok(&[Begin, Copy, Write, Switch, Start, Join]));
    check_install(TrailVerifier { free: ByteSize(1 << 20), ..found() }, desired(), None, Err("--prefix"));
    check_install(TrailVerifier { reach: BusReach::No, ..found() }, desired(), None, Err("--hive-nats"));
    check_install(found(), desired(), Some(seen("cellar", 9)), Err("already runs on cellar (process 9)"));
    check_install(found(), desired(), Some(seen("attic", 9)), Err("--name"));
    check_install(with(installed(None)), desired(), Some(seen("cellar", 9)), Err("--name"));
    // An existing version needs no further space.
    let full = TrailVerifier { free: ByteSize(0), ..with(installed(Some(42))) };
    check_install(full, desired(), Some(seen("attic", 42)), Ok(&[]));
}

#[test]
fn upgrade_keeps_the_installed_options() {
    let newer = Desired { programs: "v2".to_owned(), settings: String::new(), ..desired() };
    let refused = upgrade(&found(), &newer, None).expect_err("nothing is there");
    assert!(refused.to_string().contains("rbee hive install"), "{refused}");
    let there = with(installed(Some(42)));
    let steps = |desired: &Desired, pid| upgrade(&there, desired, Some(&seen("attic", pid))).expect("it can be done");
    assert_eq!(steps(&newer, 42), [Copy, Switch, Start, Join, Prune]);
    assert_eq!(steps(&desired(), 42), []);
    assert_eq!(steps(&desired(), 41), [Start, Join]);
}

#[test]
fn remove_restarts_a_killed_hive_that_has_workers() {
    assert_eq!(remove(&found()), []);
    assert_eq!(remove(&with(Installed { processes: 3, ..installed(Some(42)) })), [Stop, Erase]);
    assert_eq!(remove(&with(installed(None))), [Stop, Erase]);
    assert_eq!(remove(&with(Installed { processes: 2, ..installed(None) })), [Start, Join, Stop, Erase]);
    assert_eq!(remove(&with(Installed { programs: None, ..installed(None) })), [Stop, Erase]);
}

#[test]
fn layout_and_name_are_kept_until_removal() {
    let name = |name: &str| name.parse::<HiveName>().expect("a name");
    let (cellar, attic) = (name("cellar"), name("attic"));
    let check =
        |found: &TrailVerifier, preferences: Preferences<'_>, expected: Result<(ServiceManager, &str, &str), &str>| {
            match (choose_layout(found, preferences), expected) {
                (Ok((layout, hive)), Ok((manager, prefix, name))) => {
                    assert_eq!((layout.manager, layout.prefix.as_str(), hive.as_str()), (manager, prefix, name));
                }
                (Err(refusal), Err(words)) => assert!(refusal.to_string().contains(words), "{refusal}"),
                (settled, expected) => panic!("{settled:?} and not {expected:?}"),
            }
        };
    let share = "/home/pi/.local/share/rbee";
    let bare = found();
    check(&bare, Preferences::default(), Ok((ServiceManager::User, share, "attic")));
    check(
        &bare,
        Preferences { without_systemd: true, ..Preferences::default() },
        Ok((ServiceManager::None, share, "attic")),
    );
    check(
        &bare,
        Preferences { name: Some(&cellar), prefix: Some("/opt"), ..Preferences::default() },
        Ok((ServiceManager::User, "/opt", "cellar")),
    );
    check(&bare, Preferences { prefix: Some("/a b"), ..Preferences::default() }, Err("expected a path"));
    check(&bare, Preferences { data: Some("/a%b"), ..Preferences::default() }, Err("expected a path"));

    let elsewhere = Layout::new(ServiceManager::None, "/home/pi", Some("/opt"), None);
    let there = with(Installed { layout: elsewhere, ..installed(None) });
    check(&there, Preferences::default(), Ok((ServiceManager::None, "/opt", "attic")));
    check(
        &there,
        Preferences { name: Some(&attic), without_systemd: true, ..Preferences::default() },
        Ok((ServiceManager::None, "/opt", "attic")),
    );
    check(&there, Preferences { name: Some(&cellar), ..Preferences::default() }, Err("has hive attic, not cellar"));
    check(&there, Preferences { prefix: Some("/usr"), ..Preferences::default() }, Err("programs in /opt"));
    check(
        &with(installed(None)),
        Preferences { without_systemd: true, ..Preferences::default() },
        Err("the user's systemd"),
    );
}

#[test]
fn notes_report_clock_skew_and_missing_systemd() {
    let at = |found: TrailVerifier, manager, now| {
        notes(&found, &Layout::new(manager, "/home/pi", None, None), Duration::from_secs(now)).join("; ")
    };
    assert_eq!(at(found(), ServiceManager::User, 1004), "");
    assert!(at(found(), ServiceManager::User, 1100).contains("100 s behind ours"));
    assert!(at(found(), ServiceManager::User, 900).contains("100 s ahead of ours"));
    assert!(
        at(TrailVerifier { reach: BusReach::Unknown, ..found() }, ServiceManager::User, 1000)
            .contains("could not test")
    );
    assert!(at(found(), ServiceManager::None, 1000).contains("without systemd"));
}
