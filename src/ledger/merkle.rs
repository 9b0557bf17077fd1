//! The Merkle tree hash of RFC 6962 §2.1 over a batch's statements, from their leaf hashes.

use super::id::Hash;
use sha2::{Digest, Sha256};

/// The Merkle tree hash of the leaves; SHA-256 of nothing if there are none.
pub fn root(leaves: &[Hash]) -> Hash {
    match leaves {
        [] => Hash(Sha256::digest([]).into()),
        [leaf] => *leaf,
        _ => {
            // The largest power of two smaller than the number of leaves.
            let split = leaves.len().next_power_of_two() / 2;
            node(root(&leaves[..split]), root(&leaves[split..]))
        }
    }
}

fn node(left: Hash, right: Hash) -> Hash {
    Hash(Sha256::new().chain_update([1]).chain_update(left.0).chain_update(right.0).finalize().into())
}

/// The audit path of RFC 6962 §2.1.1 for leaf `index`, lowest sibling first; empty if there is no such leaf.
pub fn path(leaves: &[Hash], index: usize) -> Vec<Hash> {
    if leaves.len() < 2 || index >= leaves.len() {
        return Vec::new();
    }
    let split = leaves.len().next_power_of_two() / 2;
    let (mut path, sibling) = if index < split {
        (path(&leaves[..split], index), root(&leaves[split..]))
    } else {
        (path(&leaves[split..], index - split), root(&leaves[..split]))
    };
    path.push(sibling);
    path
}

#[cfg(test)]
mod tests {
    use super::super::leaf;
    use super::*;

    /// The tree of RFC 6962's reference tests (certificate-transparency, `merkletree` test data).
    #[test]
    fn reference_vectors() {
        let inputs = [
            "",
            "00",
            "10",
            "2021",
            "3031",
            "40414243",
            "5051525354555657",
            "606162636465666768696a6b6c6d6e6f",
        ];
        let roots = [
            "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
            "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
            "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
            "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
            "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
            "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
            "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
            "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
        ];
        let leaves: Vec<Hash> = inputs.iter().map(|i| leaf(&hex::decode(i).unwrap())).collect();
        for (n, expected) in roots.iter().enumerate() {
            assert_eq!(root(&leaves[..=n]).to_string(), *expected, "{n}");
        }
        assert_eq!(root(&[]).to_string(), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    }

    #[test]
    fn every_path_leads_to_the_root() {
        let leaves: Vec<Hash> = (0..21u8).map(|i| leaf(&[i])).collect();
        for n in 1..leaves.len() {
            for i in 0..n {
                let (mut at, mut size, mut hash) = (i, n, leaves[i]);
                let mut sides = Vec::new();
                while size > 1 {
                    let split = size.next_power_of_two() / 2;
                    sides.push(at >= split);
                    (at, size) = if at < split { (at, split) } else { (at - split, size - split) };
                }
                for (sibling, right) in path(&leaves[..n], i).into_iter().zip(sides.iter().rev()) {
                    hash = if *right { node(sibling, hash) } else { node(hash, sibling) };
                }
                assert_eq!(hash, root(&leaves[..n]));
            }
        }
    }
}
