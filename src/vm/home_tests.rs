use super::*;
use crate::host::lease::LEASE_FILE;

fn homes(directory: &Path) -> Homes {
    let confinement = Confinement::none(Support::Missing("not needed".into()));
    Homes { root: directory.to_owned(), resolved: directory.canonicalize().unwrap(), confinement }
}

/// A process as a monitor is one, which was started in the home of a VM.
fn monitor(home: &Path, id: &VmId) -> tokio::process::Child {
    fs::create_dir(home).unwrap();
    let mut command = tokio::process::Command::new("sh");
    command.args(["-c", "read line", "sh", "-name", &marker(id)]).current_dir(home);
    command.stdin(std::process::Stdio::piped()).kill_on_drop(true).spawn().unwrap()
}

#[tokio::test]
async fn a_home_is_its_owners_until_it_is_gone() {
    let directory = tempfile::tempdir().unwrap();
    let homes = homes(directory.path());
    let id = VmId::random();
    let mut home = homes.create(id.clone()).unwrap();
    assert!(homes.abandoned().unwrap().is_empty());
    assert!(homes.create(id.clone()).is_err(), "one id, one directory");
    assert!(!homes.is_absent(&id).unwrap());
    home.remove().await.unwrap();
    assert!(homes.is_absent(&id).unwrap());
    home.remove().await.unwrap();
}

#[tokio::test]
async fn what_a_crash_left_is_found_at_every_point_of_a_life() {
    let directory = tempfile::tempdir().unwrap();
    let homes = homes(directory.path());
    for prefix in [NEW, "", GONE] {
        let home = directory.path().join(format!("{prefix}{}", VmId::random()));
        fs::create_dir(&home).unwrap();
        fs::write(home.join("scratch"), "").unwrap();
    }
    fs::write(directory.path().join("something-else"), "").unwrap();
    let found = homes.abandoned().unwrap();
    assert_eq!(found.len(), 3);
    for mut home in found {
        home.remove().await.unwrap();
    }
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
}

#[tokio::test]
async fn what_outlived_its_directory_is_found_and_what_is_of_others_is_not() {
    let (ours, theirs) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let groups = tempfile::tempdir().unwrap();
    let [lost, lived_in, stranger, group] = [(); 4].map(|()| VmId::random());
    let place = ours.path().join(lost.as_str());
    let mut left = monitor(&place, &lost);
    fs::remove_dir(place).unwrap();
    let place = theirs.path().join(stranger.as_str());
    let mut others = monitor(&place, &stranger);
    fs::remove_dir(place).unwrap();
    let mut homes = homes(ours.path());
    homes.confinement = Confinement::none(Support::V2(groups.path().to_owned()));
    let owned = homes.create(lived_in.clone()).unwrap();
    for id in [&group, &lived_in] {
        fs::create_dir(groups.path().join(id.as_str())).unwrap();
    }
    // Waiting closes the input, and with it would end what is to be killed.
    let _input = left.stdin.take();
    let found = homes.abandoned().unwrap();
    let mut ids: Vec<VmId> = found.iter().map(|home| home.id().clone()).collect();
    ids.sort();
    let mut expected = vec![lost.clone(), group.clone()];
    expected.sort();
    assert_eq!(ids, expected);
    let removing = async {
        for mut home in found {
            home.remove().await.unwrap();
        }
    };
    // Waited for meanwhile: what has ended and is not waited for still has an entry among the processes.
    let ((), status) = tokio::join!(removing, left.wait());
    assert!(!status.unwrap().success());
    assert_eq!(others.try_wait().unwrap(), None, "a process of another state directory was killed");
    assert!(owned.path().exists() && groups.path().join(lived_in.as_str()).exists());
    assert!(!groups.path().join(group.as_str()).exists());
}

#[test]
fn one_bad_entry_does_not_hide_the_others() {
    let directory = tempfile::tempdir().unwrap();
    let homes = homes(directory.path());
    fs::write(directory.path().join(VmId::random().as_str()), "a file, so it cannot have a lease").unwrap();
    std::os::unix::fs::symlink("/nowhere", directory.path().join(VmId::random().as_str())).unwrap();
    let abandoned = directory.path().join(VmId::random().as_str());
    fs::create_dir(&abandoned).unwrap();
    fs::write(abandoned.join("scratch"), "").unwrap();
    assert_eq!(homes.abandoned().unwrap().len(), 1);
}

#[test]
fn who_only_looks_leaves_no_lease_behind() {
    let directory = tempfile::tempdir().unwrap();
    let homes = homes(directory.path());
    let [fresh, going] = [NEW, GONE].map(|prefix| directory.path().join(format!("{prefix}{}", VmId::random())));
    fs::create_dir(&fresh).unwrap();
    fs::create_dir(&going).unwrap();
    fs::write(going.join(LEASE_FILE), "").unwrap();
    let owner = Lease::try_take_over(&going).unwrap();
    assert_eq!(homes.abandoned().unwrap().len(), 0);
    assert!(!fresh.exists(), "nothing was in it, and whoever makes a VM tries again");
    // Its owner is through with it but for the directory itself.
    fs::remove_file(going.join(LEASE_FILE)).unwrap();
    assert_eq!(homes.abandoned().unwrap().len(), 0);
    if_there(Lease::remove_directory(&going)).unwrap();
    assert!(owner.is_some() && !going.exists());
}
