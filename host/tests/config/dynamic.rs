//! What is written when the servers of an ensemble change, against what Apache ZooKeeper 3.8.0
//! wrote in `reconfig-3.8.0` (server 1 of a run; its paths are shortened).

use std::os::unix::fs::PermissionsExt;

use zabra::config::{ConfigFiles, dynamic::apply};
use zabra_core::{
    ids::ServerId,
    zab::{Membership, MembershipOp},
};

use super::*;

fn golden(name: &str) -> String {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/config/reconfig-3.8.0");
    fs::read_to_string(directory.join(name)).unwrap()
}

/// The membership of one of the files.
fn membership(version: i64) -> Membership {
    let text = golden(&format!("zoo.cfg.dynamic.{version:x}"));
    Membership::parse(&format!("{text}\nversion={version:x}")).unwrap()
}

struct Written {
    dir: Dir,
    files: ConfigFiles,
}

impl Written {
    /// A server 1 with this in its `zoo.cfg`.
    fn new(text: impl AsRef<[u8]>) -> Self {
        let dir = Dir::new();
        let files = ConfigFiles {
            file: dir.file("zoo.cfg", text),
            me: ServerId(1),
        };
        Self { dir, files }
    }

    fn seen(&self, membership: &Membership) {
        apply(&self.files, &MembershipOp::Seen(membership.clone())).unwrap();
    }

    fn active(&self, membership: &Membership) {
        apply(&self.files, &MembershipOp::Active(membership.clone())).unwrap();
    }

    fn read(&self, name: &str) -> String {
        let text = fs::read_to_string(self.dir.0.join(name)).unwrap();
        text.replace(&*self.dir.0.to_string_lossy(), "1")
    }

    fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(&self.dir.0)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }
}

#[test]
fn files_are_those_of_apache_zookeeper() {
    let last = "dynamicConfigFile=1/zoo.cfg.dynamic.100000010\n";
    let written = Written::new(golden("zoo.cfg").replace(last, "dynamicConfigFile=elsewhere\n"));
    let versions = [0x1_0000_0000, 0x1_0000_0006, 0x1_0000_000b, 0x1_0000_0010];
    for version in versions {
        let membership = membership(version);
        if version > 0x1_0000_0000 {
            written.seen(&membership);
        }
        written.active(&membership);
        let name = format!("zoo.cfg.dynamic.{version:x}");
        assert_eq!(written.read(&name), golden(&name));
    }
    assert_eq!(written.read("zoo.cfg"), golden("zoo.cfg"));
    // Nothing is left over, and there were no servers in the file to keep a copy of.
    assert_eq!(
        written.names(),
        [
            "zoo.cfg",
            "zoo.cfg.dynamic.100000000",
            "zoo.cfg.dynamic.100000006",
            "zoo.cfg.dynamic.10000000b",
            "zoo.cfg.dynamic.100000010",
        ]
    );
}

#[test]
fn proposed_membership_is_kept_with_its_version_until_it_is_in_force() {
    let written = Written::new("dataDir=/d\n");
    let (older, newer) = (membership(0x1_0000_0006), membership(0x1_0000_000b));
    written.seen(&newer);
    let expected = format!("{}\nversion=10000000b", golden("zoo.cfg.dynamic.10000000b"));
    assert_eq!(written.read("zoo.cfg.dynamic.next"), expected);
    written.active(&older);
    assert_eq!(written.read("zoo.cfg.dynamic.next"), expected);
    written.active(&newer);
    assert!(!written.names().contains(&"zoo.cfg.dynamic.next".to_owned()));
}

#[test]
fn static_file_keeps_everything_but_what_the_dynamic_one_says() {
    let text = "# an ensemble\ntickTime=2000\nserver.1 = a:1:2;\\\n  2181\nserver.2=b:1:2\n\
                group.1=1:2\nweight.1=2\npeerType=participant\nserver.principal=zk/host\n\
                zookeeper.server.3=c:1:2\n\n! the end\nclientPort=2181\nclientPortAddress=::\n\
                clientPortListenBacklog=7";
    let kept = "# an ensemble\ntickTime=2000\nserver.principal=zk/host\n\n! the end\n";
    let mut membership = membership(0x1_0000_0006);
    let written = Written::new(text);
    written.active(&membership);
    assert_eq!(
        written.read("zoo.cfg"),
        format!("{kept}clientPortListenBacklog=7\ndynamicConfigFile=1/zoo.cfg.dynamic.100000006\n")
    );
    assert_eq!(written.read("zoo.cfg.bak"), text);

    // The port for clients stays where it is if the membership does not say it.
    let own = membership.servers.get_mut(&ServerId(1)).unwrap();
    own.client = None;
    let written = Written::new(text);
    written.active(&membership);
    assert_eq!(
        written.read("zoo.cfg"),
        format!(
            "{kept}clientPort=2181\nclientPortAddress=::\nclientPortListenBacklog=7\n\
             dynamicConfigFile=1/zoo.cfg.dynamic.100000006\n"
        )
    );
}

#[test]
fn copy_of_the_first_file_outlives_the_next_membership() {
    let written = Written::new("server.1=a:1:2\n");
    written.active(&membership(0x1_0000_0000));
    written.active(&membership(0x1_0000_0006));
    assert_eq!(written.read("zoo.cfg.bak"), "server.1=a:1:2\n");
}

#[test]
fn writing_again_changes_nothing() {
    let written = Written::new("server.1=a:1:2\ndataDir=/d\n");
    let membership = membership(0x1_0000_0006);
    written.active(&membership);
    let before = (written.read("zoo.cfg"), written.names());
    written.active(&membership);
    assert_eq!((written.read("zoo.cfg"), written.names()), before);
}

#[test]
fn bytes_that_are_not_utf8_and_who_may_read_them_stay() {
    let written = Written::new(b"# caf\xe9\r\nserver.1=a:1:2\r\nsuperDigest=secret\r\n");
    let file = &written.files.file;
    fs::set_permissions(file, fs::Permissions::from_mode(0o600)).unwrap();
    written.active(&membership(0x1_0000_0006));
    let bytes = fs::read(file).unwrap();
    assert!(bytes.starts_with(b"# caf\xe9\r\nsuperDigest=secret\r\ndynamicConfigFile="));
    for name in ["zoo.cfg", "zoo.cfg.bak"] {
        let mode = fs::metadata(written.dir.0.join(name))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
}

#[test]
fn what_is_written_is_read_again() {
    let text = "dataDir=/nonexistent\ninitLimit=10\nsyncLimit=5\nmyid=1\nclientPort=21821\n\
                standaloneEnabled=false\nserver.1=127.0.0.1:24881:25881\n";
    let mut written = Written::new(text);
    // In a directory whose name no properties file can hold as it is.
    let directory = written.dir.0.join("a b\\c é😀");
    fs::create_dir(&directory).unwrap();
    let file = directory.join("zoo.cfg");
    fs::rename(&written.files.file, &file).unwrap();
    written.files.file = file;
    let (active, seen) = (membership(0x1_0000_0006), membership(0x1_0000_000b));
    written.active(&active);
    written.seen(&seen);
    let config = ServerConfig::load(&sources(Some(&written.files.file), &[])).unwrap();
    let ensemble = config.ensemble.unwrap();
    let dynamic = directory.join("zoo.cfg.dynamic.100000006");
    assert_eq!(ensemble.dynamic_file, Some(dynamic));
    assert_eq!(ensemble.files.as_ref(), Some(&written.files));
    assert_eq!(ensemble.zab.committed, active);
    assert_eq!(ensemble.zab.last_seen, Some(seen));
}

#[test]
fn file_that_cannot_be_written_is_named_and_nothing_is_lost() {
    let written = Written::new("server.1=a:1:2\n");
    // A directory is where the temporary file would be.
    fs::create_dir(written.dir.0.join("zoo.cfg.tmp")).unwrap();
    let op = MembershipOp::Active(membership(0x1_0000_0006));
    let error = apply(&written.files, &op).unwrap_err().to_string();
    let expected = format!("{}.tmp: cannot be written: ", written.files.file.display());
    assert!(error.starts_with(&expected), "{error}");
    assert_eq!(written.read("zoo.cfg"), "server.1=a:1:2\n");
}
