//! Accounts, groups and id maps of any root.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sockwarden::enrich::{access, container, package, user};

fuzz_target!(|bytes: &[u8]| {
    for account in user::passwd(bytes) {
        assert!(!account.name.is_empty() && !account.name.as_bytes().contains(&b':'));
    }
    let map = user::id_map(bytes);
    for range in &map {
        if let Some(seen) = user::outside(&map[..1], range.inside) {
            assert_eq!(user::inside(&map[..1], seen), Some(range.inside));
        }
    }
    let _ = (user::group(bytes), user::other_sources(bytes), access::acl(bytes));
    let _ = (access::device_of(bytes, b"/run/x"), container::state_folder(bytes, b"abc"));
    let mut search = package::Search::new([bytes], &[b"bin"], package::diversions(bytes));
    search.dpkg_list(b"x", bytes);
    search.apk_installed(bytes);
});
