//! The nouns. No input or output, no policy.

#![forbid(unsafe_code)]

mod address;
pub(crate) mod classes;
mod context;
mod excerpt;
mod exposure;
mod fact;
mod inquiry;
mod problem;
mod process;
mod published;
pub(crate) mod ranges;
mod routing;
#[doc(hidden)]
pub mod sample;
mod snapshot;
mod socket;
mod text;

pub use address::{AddrRange, PortRange, canonical};
pub use context::{
    Container, FilterState, FrontEnd, Host, Interface, InterfaceKind, IpsetDump, LegacyTable, LinkSettings,
    Namespace, NamespaceId, NftablesDump, Routes, Sysctls, Upstream,
};
pub use exposure::{Access, Entry, Evidence, Exposure, Path, Reach, Users, Verdict};
pub use fact::Fact;
pub use inquiry::{Answer, Asked, Asking, Closer, Closing, Inquiry, Refusal};
pub use problem::Problem;
pub use process::{Ancestor, ExeState, Holder, How, Process, ProcessId, Stdio};
pub use published::{Published, PublishedTarget};
pub use routing::{RouteKind, RouteRule, RuleAction, TableRoute};
pub use snapshot::{Gap, GapId, Observation, Owner, Snapshot, Wants};
pub use socket::{
    Activation, Endpoint, OwnerGap, Protocol, Role, Socket, SocketIndex, SocketType, Span, State,
};
pub use text::{Hex, Text, counted, harmless};
