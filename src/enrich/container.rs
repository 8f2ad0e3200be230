//! Name and image of a container, from the state files that its runtime keeps on this host.
//!
//! The files are read in our own root, where the runtime runs; where they are not readable, name and
//! image stay unknown and the container is still told by its id.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::model::{Container, Fact, Snapshot, Text};
use crate::source::{Root, Source};

use super::cgroup::Mark;
use super::process::Look;
use super::user;

/// No state file is larger.
const LIMIT: usize = 16 << 20;

/// What a state file tells.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Label {
    pub name: Option<Text>,
    pub image: Option<Text>,
}

/// Docker's `config.v2.json`.
pub fn docker(bytes: &[u8]) -> Option<Label> {
    #[derive(Deserialize)]
    struct State {
        #[serde(rename = "Name")]
        name: Option<String>,
        #[serde(rename = "Config")]
        config: Option<Config>,
    }
    #[derive(Deserialize)]
    struct Config {
        #[serde(rename = "Image")]
        image: Option<String>,
    }
    let state: State = serde_json::from_slice(bytes).ok()?;
    let name = state.name.map(|name| name.strip_prefix('/').unwrap_or(&name).into());
    Some(Label { name, image: state.config.and_then(|config| config.image).map(Into::into) })
}

/// The entry of one container in `containers.json` of containers/storage (podman, CRI-O).
pub fn storage(bytes: &[u8], id: &str) -> Option<Label> {
    #[derive(Deserialize)]
    struct Entry {
        id: String,
        #[serde(default)]
        names: Vec<String>,
        #[serde(default)]
        metadata: String,
    }
    #[derive(Deserialize, Default)]
    struct Metadata {
        #[serde(rename = "image-name")]
        image: Option<String>,
        name: Option<String>,
    }
    let entries: Vec<Entry> = serde_json::from_slice(bytes).ok()?;
    let entry = entries.into_iter().find(|each| each.id == id)?;
    let metadata: Metadata = serde_json::from_str(&entry.metadata).unwrap_or_default();
    let name = metadata.name.or_else(|| entry.names.into_iter().next());
    Some(Label { name: name.map(Into::into), image: metadata.image.map(Into::into) })
}

/// The annotations in the `config.json` of an OCI bundle (containerd, CRI-O).
pub fn bundle(bytes: &[u8]) -> Option<Label> {
    #[derive(Deserialize)]
    struct Bundle {
        #[serde(default)]
        annotations: BTreeMap<String, String>,
    }
    let bundle: Bundle = serde_json::from_slice(bytes).ok()?;
    let first =
        |keys: &[&str]| keys.iter().find_map(|key| bundle.annotations.get(*key)).map(|s| s.as_str().into());
    let sandbox = first(&["io.kubernetes.cri.container-type", "io.kubernetes.cri-o.ContainerType"]);
    let pod = first(&["io.kubernetes.cri.sandbox-name", "io.kubernetes.pod.name"]);
    let own = first(&["io.kubernetes.cri.container-name", "io.kubernetes.container.name", "nerdctl/name"]);
    let name = if sandbox == Some(Text::from("sandbox")) { pod } else { own };
    let image = first(&[
        "io.kubernetes.cri.image-name",
        "io.kubernetes.cri-o.ImageName",
        "io.kubernetes.cri-o.Image",
    ]);
    Some(Label { name, image })
}

/// `data-root` of Docker's daemon.json.
pub fn data_root(bytes: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    struct Settings {
        #[serde(rename = "data-root")]
        data_root: Option<String>,
    }
    serde_json::from_slice::<Settings>(bytes).ok()?.data_root
}

/// A folder that a mount table (proc_pid_mountinfo(5)) shows as mounted from: device, and path within
/// that file system.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Origin {
    pub device: Vec<u8>,
    pub path: Vec<u8>,
}

/// Runtimes mount `hostname` or `resolv.conf` into a container from a folder named by its id: there
/// the state files lie, wherever the data root is.
pub fn state_folder(mountinfo: &[u8], id: &[u8]) -> Option<Origin> {
    user::lines(mountinfo).find_map(|line| {
        let mut words = line.split(|&byte| byte == b' ').skip(2);
        let (device, path) = (words.next()?, words.next()?);
        let at = path.windows(id.len().max(1)).position(|window| window == id)?;
        let end = at + id.len();
        let whole = at > 0 && path[at - 1] == b'/' && path.get(end) == Some(&b'/');
        whole.then(|| Origin { device: device.to_vec(), path: octal(&path[..end]) })
    })
}

/// Where an origin stands in the mount table of a namespace.
pub fn place(mountinfo: &[u8], origin: &Origin) -> Option<Vec<u8>> {
    let places = user::lines(mountinfo).filter_map(|line| {
        let words: Vec<&[u8]> = line.splitn(6, |&byte| byte == b' ').collect();
        let (device, root, point) = (*words.get(2)?, octal(words.get(3)?), octal(words.get(4)?));
        let rest = match root.as_slice() {
            b"/" => &origin.path[..],
            _ => origin.path.strip_prefix(root.as_slice()).filter(|rest| rest.starts_with(b"/"))?,
        };
        let point = if point == b"/" { Vec::new() } else { point };
        (device == origin.device).then(|| (root.len(), [point.as_slice(), rest].concat()))
    });
    places.max_by_key(|(depth, _)| *depth).map(|(_, path)| path)
}

/// Undoes `\040` and its kin.
pub(super) fn octal(text: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&byte, after)) = rest.split_first() {
        let digits =
            after.get(..3).filter(|three| byte == b'\\' && three.iter().all(|d| (b'0'..b'8').contains(d)));
        let value = digits.and_then(|three| u8::from_str_radix(std::str::from_utf8(three).ok()?, 8).ok());
        plain.push(value.unwrap_or(byte));
        rest = if value.is_some() { &after[3..] } else { after };
    }
    plain
}

/// Fills the container of every process that is in one. Counts the containers whose runtime keeps
/// name and image where we could not read them.
pub(super) fn fill(snapshot: &mut Snapshot, looks: &[Look], source: &Source) -> u64 {
    let mut known: BTreeMap<(&str, &Text), (Label, Option<&'static str>)> = BTreeMap::new();
    let mut files = None;
    let mut unread = 0;
    for (process, look) in snapshot.processes.iter_mut().zip(looks) {
        let Some(mark) = &look.container else { continue };
        let (label, runtime) = known.entry((mark.runtime, &mark.id)).or_insert_with(|| {
            let files = files.get_or_insert_with(|| Files::open(source));
            let found = files.as_ref().and_then(|files| files.label(mark, process.pid));
            unread += u64::from(found.is_none());
            found.unwrap_or_default()
        });
        process.container = Fact::Known(Container {
            runtime: runtime.unwrap_or(mark.runtime).to_owned(),
            id: mark.id.clone(),
            name: label.name.clone(),
            image: label.image.clone(),
        });
    }
    unread
}

/// The runtimes' state files on this host.
struct Files<'s> {
    source: &'s Source,
    root: Root<'s>,
    mounts: Vec<u8>,
    docker: Option<String>,
}

impl<'s> Files<'s> {
    fn open(source: &'s Source) -> Option<Self> {
        let root = source.root(0).ok()?;
        let docker = root.read("/etc/docker/daemon.json", LIMIT).ok().and_then(|bytes| data_root(&bytes));
        let mounts = source.proc_file("self/mountinfo").unwrap_or_default();
        Some(Self { source, root, mounts, docker })
    }

    /// Name, image, and the runtime where the state file tells more than the cgroup.
    fn label(&self, mark: &Mark, pid: u32) -> Option<(Label, Option<&'static str>)> {
        let own = |label: Option<Label>| label.map(|label| (label, None));
        match mark.runtime {
            "docker" => own(self.docker(mark, pid)),
            "podman" => own(self.storage(mark, pid)),
            "containerd" => own(self.containerd(mark)),
            "crio" => own(self.crio(mark).or_else(|| self.storage(mark, pid))),
            "kubepods" => (self.containerd(mark).map(|label| (label, Some("containerd"))))
                .or_else(|| self.crio(mark).map(|label| (label, Some("crio"))))
                .or_else(|| self.docker(mark, pid).map(|label| (label, Some("docker")))),
            // Named by their user: the id is the name, and there is no image.
            "lxc" | "systemd-nspawn" => Some((Label { name: Some(mark.id.clone()), image: None }, None)),
            _ => None,
        }
    }

    fn read(&self, path: &str) -> Option<Vec<u8>> {
        self.root.read(path, LIMIT).ok()
    }

    /// The folder that the container's own mounts come from, as a path of ours.
    fn folder(&self, mark: &Mark, pid: u32) -> Option<String> {
        let theirs = self.source.process(pid).ok()?.read("mountinfo").ok()?;
        let origin = state_folder(&theirs, mark.id.as_bytes())?;
        String::from_utf8(place(&self.mounts, &origin)?).ok()
    }

    fn docker(&self, mark: &Mark, pid: u32) -> Option<Label> {
        let id = mark.id.as_str()?;
        let folders = [
            self.docker.as_ref().map(|root| format!("{root}/containers/{id}")),
            Some(format!("/var/lib/docker/containers/{id}")),
        ];
        let told =
            folders.into_iter().flatten().find_map(|folder| self.read(&format!("{folder}/config.v2.json")));
        let told = told.or_else(|| self.read(&format!("{}/config.v2.json", self.folder(mark, pid)?)));
        docker(&told?)
    }

    fn storage(&self, mark: &Mark, pid: u32) -> Option<Label> {
        let id = mark.id.as_str()?;
        let mut roots = vec!["/var/lib/containers/storage".to_owned()];
        // A user's own: …/storage/overlay-containers/ID/userdata
        if let Some(folder) = self.folder(mark, pid) {
            roots.extend(folder.rsplitn(3, '/').nth(2).map(str::to_owned));
        }
        let passwd = self.read("/etc/passwd").unwrap_or_default();
        let homes = user::passwd(&passwd).into_iter().filter_map(|each| Some(each.home.as_str()?.to_owned()));
        roots.extend(homes.map(|home| format!("{home}/.local/share/containers/storage")));
        roots.dedup();
        roots.iter().take(1000).find_map(|root| {
            ["overlay", "vfs", "btrfs", "zfs"].iter().find_map(|driver| {
                ["containers.json", "volatile-containers.json"]
                    .iter()
                    .find_map(|file| storage(&self.read(&format!("{root}/{driver}-containers/{file}"))?, id))
            })
        })
    }

    fn containerd(&self, mark: &Mark) -> Option<Label> {
        let id = mark.id.as_str()?;
        let tasks = "/run/containerd/io.containerd.runtime.v2.task";
        let spaces = self.root.list(tasks).ok()?;
        let spaces = spaces.iter().filter_map(|name| std::str::from_utf8(name).ok());
        spaces.take(100).find_map(|space| bundle(&self.read(&format!("{tasks}/{space}/{id}/config.json"))?))
    }

    fn crio(&self, mark: &Mark) -> Option<Label> {
        let id = mark.id.as_str()?;
        ["/run/containers/storage", "/var/lib/containers/storage"].iter().find_map(|root| {
            bundle(&self.read(&format!("{root}/overlay-containers/{id}/userdata/config.json"))?)
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, proptest};

    use super::*;

    fn label(name: &str, image: &str) -> Label {
        Label { name: Some(name.into()), image: Some(image.into()) }
    }

    #[test]
    fn state_files_of_each_runtime() {
        let told = br#"{"ID":"a","Name":"/web","Config":{"Image":"nginx:1","Hostname":"h"}}"#;
        assert_eq!(docker(told), Some(label("web", "nginx:1")));
        let told = br#"[{"id":"x","names":["n"]},{"id":"a","names":["a"],"image":"f00",
            "metadata":"{\"image-name\":\"docker.io/nginx:1\",\"name\":\"web\"}"}]"#;
        assert_eq!(storage(told, "a"), Some(label("web", "docker.io/nginx:1")));
        assert_eq!(storage(told, "x"), Some(Label { name: Some("n".into()), image: None }));
        assert_eq!(storage(told, "b"), None);
        let told = br#"{"annotations":{"io.kubernetes.cri.container-name":"web",
            "io.kubernetes.cri.container-type":"container",
            "io.kubernetes.cri.sandbox-name":"pod","io.kubernetes.cri.image-name":"nginx:1"}}"#;
        assert_eq!(bundle(told), Some(label("web", "nginx:1")));
        let told = br#"{"annotations":{"io.kubernetes.cri.container-type":"sandbox",
            "io.kubernetes.cri.sandbox-name":"pod"}}"#;
        assert_eq!(bundle(told), Some(Label { name: Some("pod".into()), image: None }));
        assert_eq!(data_root(br#"{"data-root":"/srv/d"}"#).as_deref(), Some("/srv/d"));
    }

    #[test]
    fn the_data_root_is_found_through_the_mounts() {
        let theirs = b"10 9 8:3 /d\\040r/containers/abc/hostname /etc/hostname rw - ext4 /dev/sda3 rw\n";
        let origin = state_folder(theirs, b"abc").expect("a folder");
        assert_eq!(origin.path, b"/d r/containers/abc");
        assert_eq!(state_folder(theirs, b"ab"), None);
        let ours = b"20 1 8:1 / / rw - ext4 a rw\n21 20 8:3 / /srv rw - ext4 b rw\n";
        assert_eq!(place(ours, &origin).as_deref(), Some(&b"/srv/d r/containers/abc"[..]));
        let bound = b"21 20 8:3 /d\\040r /data rw - ext4 b rw\n";
        assert_eq!(place(bound, &origin).as_deref(), Some(&b"/data/containers/abc"[..]));
        assert_eq!(place(b"20 1 8:1 / / rw - ext4 a rw\n", &origin), None);
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in any::<Vec<u8>>(), id in "[a-f/]{0,4}") {
            let _ = (docker(&bytes), storage(&bytes, &id), bundle(&bytes), data_root(&bytes));
            let origin = Origin { device: b"8:1".to_vec(), path: bytes.clone() };
            let _ = (state_folder(&bytes, id.as_bytes()), place(&bytes, &origin));
        }
    }
}
