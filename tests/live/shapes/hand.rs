//! Rulesets as people write them, after the usual guides, and odd ones.

use super::scene::{Scene, Shape};
use crate::lab::{Need, Outcome};
use crate::reach::Kind;

const NFT: &[Need] = &[Need::Root, Need::Tool("ip"), Need::Tool("nft")];

/// A ruleset in `hand/NAME.nft`, loaded by nft.
macro_rules! loaded {
    ($name:literal, $settled:literal, $doubt:expr, $how:literal) => {
        Shape {
            name: $name,
            how: $how,
            needs: NFT,
            slow: false,
            doubt: $doubt,
            settled: $settled,
            make: |scene| load(scene, include_str!(concat!("hand/", $name, ".nft"))),
        }
    };
}

pub(super) fn shapes() -> Vec<Shape> {
    vec![
        loaded!(
            "workstation",
            true,
            &[],
            "A workstation's ruleset as the Debian wiki describes it, written by hand; `nft -f`."
        ),
        loaded!(
            "server-sets",
            true,
            &[],
            "A server with named sets, maps and verdict maps after the nftables wiki; `nft -f`."
        ),
        loaded!(
            "rate-limited",
            true,
            &[
                (Kind::Tcp, 22, "limit rate"),
                (Kind::Tcp, 80, "ct count over 2000"),
                (Kind::Tcp, 443, "limit rate over 1000/second"),
            ],
            "Limits, meters and connection counts after the nftables wiki; `nft -f`."
        ),
        loaded!(
            "many-hooks",
            true,
            &[],
            "Base chains at every hook of several families and priorities, dormant tables, empty chains, odd comments; `nft -f`."
        ),
        loaded!(
            "deep-jumps",
            true,
            &[],
            "As many jumps deep as the kernel takes (15), gotos and returns; `nft -f`."
        ),
        loaded!(
            "reverse-path",
            true,
            // A neighbour may send any packet in a frame to one or to many.
            &[(Kind::Udp, 53, "pkttype host"), (Kind::Udp, 5353, "pkttype multicast")],
            "Reverse path filters by fib, raw drops, notrack and connection marks; `nft -f`."
        ),
        loaded!(
            "banned-sets",
            true,
            &[],
            "Sets of banned addresses with timeouts, as crowdsec's and fail2ban's nftables bouncers make them; `nft -f`."
        ),
        Shape {
            name: "large-set",
            how: "",
            needs: NFT,
            slow: false,
            doubt: &[],
            settled: true,
            make: large_set,
        },
    ]
}

fn load(scene: &mut Scene, text: &str) -> Outcome {
    scene.feed(&["nft", "-f", "-"], text)
}

/// A hundred thousand banned networks.
fn large_set(scene: &mut Scene) -> Outcome {
    let networks = (0..100_000_u32).map(|at| {
        let number = 0x0b00_0000 + (at << 4);
        format!("{}/30", std::net::Ipv4Addr::from(number))
    });
    let list: Vec<String> = networks.collect();
    let text = format!(
        "table inet guard {{\n set banned {{\n type ipv4_addr; flags interval; elements = {{ {}, 8.8.8.8 }}\n }}\n \
         chain input {{\n type filter hook input priority -5; ip saddr @banned drop\n }}\n}}\n",
        list.join(", ")
    );
    scene.feed(&["nft", "-f", "-"], &text)
}
