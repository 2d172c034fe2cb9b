use super::{Step::*, *};

fn found() -> Found {
    Found {
        system: "Linux".to_owned(),
        machine: "x86_64".to_owned(),
        host: "attic".to_owned(),
        home: "/home/pi".to_owned(),
        manager: Manager::User,
        free: ByteSize(1 << 30),
        reach: Reach::Yes,
        clock: Duration::from_secs(1000),
        installed: None,
    }
}

fn installed(pid: Option<u32>) -> Installed {
    Installed {
        place: Place::new(Manager::User, "/home/pi", None, None),
        hive: "attic".parse().expect("a name"),
        programs: Some("v1".to_owned()),
        version: "rbee 1".to_owned(),
        settings: "s1".to_owned(),
        unit: "u1".to_owned(),
        pid,
        processes: 0,
    }
}

fn wanted() -> Wanted {
    Wanted {
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

fn with(installed: Installed) -> Found {
    Found { installed: Some(installed), ..found() }
}

fn check_install(found: Found, wanted: Wanted, seen: Option<HiveRecord>, expected: Result<&[Step], &str>) {
    match (install(&found, &wanted, seen.as_ref(), "nats://one:4222"), expected) {
        (Ok(steps), Ok(expected)) => assert_eq!(steps, expected, "{found:?} {wanted:?}"),
        (Err(refusal), Err(words)) => assert!(refusal.to_string().contains(words), "{refusal}"),
        (decided, expected) => panic!("{decided:?} and not {expected:?}: {found:?}"),
    }
}

#[test]
fn a_bare_machine_gets_everything_and_one_that_has_it_gets_nothing() {
    let all = [Begin, Copy, Write, Switch, Start, Join];
    check_install(found(), wanted(), None, Ok(&all));
    check_install(with(installed(Some(42))), wanted(), Some(seen("attic", 42)), Ok(&[]));
}

#[test]
fn only_what_is_different_is_done_again() {
    let runs = || with(installed(Some(42)));
    let on_bus = || Some(seen("attic", 42));
    let newer = || Wanted { programs: "v2".to_owned(), ..wanted() };
    let other_settings = || Wanted { settings: "s2".to_owned(), ..wanted() };
    check_install(runs(), newer(), on_bus(), Ok(&[Copy, Switch, Start, Join, Prune]));
    check_install(runs(), other_settings(), on_bus(), Ok(&[Write, Start, Join]));
    check_install(runs(), Wanted { unit: "u2".to_owned(), ..wanted() }, on_bus(), Ok(&[Write, Start, Join]));
    // It does not run; it runs and is not on the bus; what is on the bus is the run before.
    check_install(with(installed(None)), wanted(), None, Ok(&[Start, Join]));
    check_install(runs(), wanted(), None, Ok(&[Start, Join]));
    check_install(with(installed(Some(43))), wanted(), on_bus(), Ok(&[Start, Join]));
    // Cut off before its programs were there.
    let cut_off = Installed { programs: None, settings: String::new(), unit: String::new(), ..installed(None) };
    check_install(with(cut_off), wanted(), None, Ok(&[Copy, Write, Switch, Start, Join, Prune]));
}

#[test]
fn what_cannot_work_is_refused_with_what_to_do() {
    let machine = |machine: &str| Found { machine: machine.to_owned(), ..found() };
    check_install(Found { system: "Darwin".to_owned(), ..found() }, wanted(), None, Err("needs Linux"));
    check_install(machine("aarch64"), wanted(), None, Err("--programs"));
    check_install(machine("amd64"), wanted(), None, Ok(&[Begin, Copy, Write, Switch, Start, Join]));
    check_install(Found { free: ByteSize(1 << 20), ..found() }, wanted(), None, Err("--prefix"));
    check_install(Found { reach: Reach::No, ..found() }, wanted(), None, Err("--hive-nats"));
    check_install(found(), wanted(), Some(seen("cellar", 9)), Err("runs already on cellar (process 9)"));
    check_install(found(), wanted(), Some(seen("attic", 9)), Err("--name"));
    check_install(with(installed(None)), wanted(), Some(seen("cellar", 9)), Err("--name"));
    // What is there needs no room.
    let full = Found { free: ByteSize(0), ..with(installed(Some(42))) };
    check_install(full, wanted(), Some(seen("attic", 42)), Ok(&[]));
}

#[test]
fn an_upgrade_needs_an_installation_and_leaves_its_settings() {
    let newer = Wanted { programs: "v2".to_owned(), settings: String::new(), ..wanted() };
    let refused = upgrade(&found(), &newer, None).expect_err("nothing is there");
    assert!(refused.to_string().contains("rbee hive install"), "{refused}");
    let there = with(installed(Some(42)));
    let steps = |wanted: &Wanted, pid| upgrade(&there, wanted, Some(&seen("attic", pid))).expect("it can be done");
    assert_eq!(steps(&newer, 42), [Copy, Switch, Start, Join, Prune]);
    assert_eq!(steps(&wanted(), 42), []);
    assert_eq!(steps(&wanted(), 41), [Start, Join]);
}

#[test]
fn a_hive_is_removed_in_order_also_where_only_its_workers_are_left() {
    assert_eq!(remove(&found()), []);
    assert_eq!(remove(&with(Installed { processes: 3, ..installed(Some(42)) })), [Stop, Erase]);
    assert_eq!(remove(&with(installed(None))), [Stop, Erase]);
    assert_eq!(remove(&with(Installed { processes: 2, ..installed(None) })), [Start, Join, Stop, Erase]);
    assert_eq!(remove(&with(Installed { programs: None, ..installed(None) })), [Stop, Erase]);
}

#[test]
fn a_hive_stays_where_and_what_it_is_unless_it_is_removed() {
    let name = |name: &str| name.parse::<HiveName>().expect("a name");
    let (cellar, attic) = (name("cellar"), name("attic"));
    let check = |found: &Found, wishes: Wishes<'_>, expected: Result<(Manager, &str, &str), &str>| match (
        settle(found, wishes),
        expected,
    ) {
        (Ok((place, hive)), Ok((manager, prefix, name))) => {
            assert_eq!((place.manager, place.prefix.as_str(), hive.as_str()), (manager, prefix, name));
        }
        (Err(refusal), Err(words)) => assert!(refusal.to_string().contains(words), "{refusal}"),
        (settled, expected) => panic!("{settled:?} and not {expected:?}"),
    };
    let share = "/home/pi/.local/share/rbee";
    let bare = found();
    check(&bare, Wishes::default(), Ok((Manager::User, share, "attic")));
    check(&bare, Wishes { without_systemd: true, ..Wishes::default() }, Ok((Manager::Nobody, share, "attic")));
    check(
        &bare,
        Wishes { name: Some(&cellar), prefix: Some("/opt"), ..Wishes::default() },
        Ok((Manager::User, "/opt", "cellar")),
    );
    check(&bare, Wishes { prefix: Some("/a b"), ..Wishes::default() }, Err("expected a path"));
    check(&bare, Wishes { data: Some("/a%b"), ..Wishes::default() }, Err("expected a path"));

    let elsewhere = Place::new(Manager::Nobody, "/home/pi", Some("/opt"), None);
    let there = with(Installed { place: elsewhere, ..installed(None) });
    check(&there, Wishes::default(), Ok((Manager::Nobody, "/opt", "attic")));
    check(
        &there,
        Wishes { name: Some(&attic), without_systemd: true, ..Wishes::default() },
        Ok((Manager::Nobody, "/opt", "attic")),
    );
    check(&there, Wishes { name: Some(&cellar), ..Wishes::default() }, Err("has a hive attic and not cellar"));
    check(&there, Wishes { prefix: Some("/usr"), ..Wishes::default() }, Err("programs in /opt"));
    check(&with(installed(None)), Wishes { without_systemd: true, ..Wishes::default() }, Err("the user's systemd"));
}

#[test]
fn what_hinders_nothing_is_told() {
    let at = |found: Found, manager, now| {
        notes(&found, &Place::new(manager, "/home/pi", None, None), Duration::from_secs(now)).join("; ")
    };
    assert_eq!(at(found(), Manager::User, 1004), "");
    assert!(at(found(), Manager::User, 1100).contains("100 s behind ours"));
    assert!(at(found(), Manager::User, 900).contains("100 s ahead of ours"));
    assert!(at(Found { reach: Reach::Unknown, ..found() }, Manager::User, 1000).contains("could not be tried"));
    assert!(at(found(), Manager::Nobody, 1000).contains("without systemd"));
}
