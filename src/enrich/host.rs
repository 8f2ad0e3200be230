//! The computer itself.

use crate::model::Host;
use crate::source::Source;

use super::user::lines;

/// Fills what the running system says of itself. On Linux through the source, so that a recording
/// tells of the machine that it was made on; elsewhere the system's own calls (sysinfo).
pub(super) fn fill(host: &mut Host, source: &Source) {
    let text = |path: &str| source.proc_file(path).ok().map(|bytes| line(&bytes));
    let Some(kernel) = text("sys/kernel/osrelease") else {
        if source.is_live() {
            *host = Host {
                name: sysinfo::System::host_name().unwrap_or_default(),
                os: sysinfo::System::long_os_version().unwrap_or_default(),
                kernel: sysinfo::System::kernel_version().unwrap_or_default(),
                boot_id: None,
                dmi: None,
            };
        }
        return;
    };
    host.kernel = kernel;
    host.name = text("sys/kernel/hostname").unwrap_or_default();
    host.boot_id = text("sys/kernel/random/boot_id");
    let root = source.root(0).ok();
    let release = root.and_then(|root| {
        let read = |path| root.read(path, 1 << 16).ok();
        read("/etc/os-release").or_else(|| read("/usr/lib/os-release"))
    });
    host.os = release.as_deref().and_then(pretty_name).unwrap_or_else(|| "Linux".into());
    let dmi = |name: &str| source.sys_file(&format!("class/dmi/id/{name}")).ok().map(|bytes| line(&bytes));
    // Azure and Oracle name themselves in the asset tag only.
    let words = ["sys_vendor", "product_name", "chassis_asset_tag"].map(dmi);
    let words: Vec<String> = words.into_iter().flatten().collect();
    let words = words.join(" ").trim().to_owned();
    host.dmi = (!words.is_empty()).then_some(words);
}

fn line(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes.trim_ascii()).into_owned()
}

/// `PRETTY_NAME` of os-release(5), without its quotes.
pub(crate) fn pretty_name(bytes: &[u8]) -> Option<String> {
    let value = lines(bytes).find_map(|line| line.strip_prefix(b"PRETTY_NAME="))?.trim_ascii();
    let quoted = |quote: &[u8]| value.strip_prefix(quote)?.strip_suffix(quote);
    let plain = quoted(b"\"").or_else(|| quoted(b"'")).unwrap_or(value);
    (!plain.is_empty()).then(|| String::from_utf8_lossy(plain).into_owned())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, proptest};

    use super::*;

    #[test]
    fn names_the_system() {
        let text = b"ID=debian\nPRETTY_NAME=\"Debian GNU/Linux 12\"\n";
        assert_eq!(pretty_name(text).as_deref(), Some("Debian GNU/Linux 12"));
        assert_eq!(pretty_name(b"PRETTY_NAME=Alpine\n").as_deref(), Some("Alpine"));
        assert_eq!(pretty_name(b"PRETTY_NAME=\"\"\n"), None);
        assert_eq!(pretty_name(b"PRETTY_NAME=\"\n").as_deref(), Some("\""));
    }

    #[test]
    fn this_computer_has_a_name_and_a_kernel() {
        let mut host = Host::default();
        fill(&mut host, &Source::live().expect("a source"));
        assert!(!host.kernel.is_empty() && !host.os.is_empty());
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in any::<Vec<u8>>()) {
            let _ = pretty_name(&bytes);
        }
    }
}
