//! Any bytes as rpm's data base and as the log beside it: looked up in bounded time, or refused.
#![no_main]

use std::collections::BTreeMap;
use std::io;

use libfuzzer_sys::fuzz_target;
use sockwarden::enrich::rpm::look_up;
use sockwarden::enrich::rpm::sqlite::{Files, Part};

struct Memory<'b>(&'b [u8]);

impl Files for Memory<'_> {
    fn at(&self, part: Part, offset: u64, len: usize) -> io::Result<Vec<u8>> {
        // The log begins with its own magic, wherever that is.
        let log = self.0.windows(4).position(|four| four[..3] == [0x37, 0x7f, 0x06]).unwrap_or(self.0.len());
        let file = if part == Part::Main { &self.0[..log] } else { &self.0[log..] };
        let rest = usize::try_from(offset).ok().and_then(|start| file.get(start..)).unwrap_or_default();
        Ok(rest[..rest.len().min(len)].to_vec())
    }
}

fuzz_target!(|bytes: &[u8]| {
    let names = ["/opt/p1/tool", "/opt/shared/twice"].map(|path| (path.into(), vec![path.into()]));
    let _ = look_up(Memory(bytes), &BTreeMap::from(names));
});
