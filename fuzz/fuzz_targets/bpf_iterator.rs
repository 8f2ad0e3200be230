//! What the iterator in the kernel writes, in whatever pieces, and the description of types that it is
//! fitted to: names in the former are other programs' choice.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sockwarden::collect::linux::bpf::holder::{Record, Records};
use sockwarden::collect::linux::bpf::types;

fuzz_target!(|bytes: &[u8]| {
    let Some((&cut, bytes)) = bytes.split_first() else { return };
    let read = |pieces: [&[u8]; 2]| {
        let (mut records, mut found) = (Records::default(), Vec::new());
        for piece in pieces {
            records.feed(piece, &mut |record| found.push(record))?;
        }
        Ok((found, records.is_complete()))
    };
    let whole: Result<_, sockwarden::collect::linux::bpf::holder::Foreign> = read([bytes, &[]]);
    let cut = usize::from(cut).min(bytes.len());
    assert_eq!(read([&bytes[..cut], &bytes[cut..]]), whole, "it does not matter where the pieces end");
    for record in whole.iter().flat_map(|(found, _)| found) {
        let Record::Holder(holder) = record else { continue };
        assert!(holder.name.as_bytes().len() <= 16);
        let shown = holder.name.to_string();
        assert!(!shown.chars().any(char::is_control), "{shown:?}");
    }
    if let Some(found) = types::excerpt(bytes, "bpf_iter_task_file") {
        // In the same format, so an excerpt of it is possible too; but it has no function.
        assert!(types::excerpt(&found.types, "bpf_iter_task_file").is_none());
    }
});
