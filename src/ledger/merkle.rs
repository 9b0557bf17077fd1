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

/// What is needed of a tree to go on with it: the roots of its complete subtrees, the largest first. There are as many
/// as the number of leaves has bits that are set.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Frontier {
    leaves: u64,
    roots: Vec<Hash>,
}

impl Frontier {
    /// Adds a leaf; one hash on average.
    pub fn push(&mut self, leaf: Hash) {
        let mut hash = leaf;
        for _ in 0..self.leaves.trailing_ones() {
            hash = self.roots.pop().map_or(hash, |left| node(left, hash));
        }
        self.roots.push(hash);
        self.leaves += 1;
    }

    /// The Merkle tree hash: [`root`] of all leaves so far, by at most 63 hashes.
    pub fn root(&self) -> Hash {
        let smallest_first = self.roots.iter().rev().copied();
        smallest_first.reduce(|right, left| node(left, right)).unwrap_or_else(|| root(&[]))
    }

    /// The subtrees' roots, joined.
    pub fn to_bytes(&self) -> Vec<u8> {
        self.roots.iter().flat_map(|root| root.0).collect()
    }

    /// From what [`Frontier::to_bytes`] returned for this many leaves; `None` if it cannot be that.
    pub fn from_bytes(leaves: u64, bytes: &[u8]) -> Option<Self> {
        let roots: Option<Vec<Hash>> = bytes.chunks(32).map(Hash::from_slice).collect();
        let roots = roots.filter(|roots| roots.len() == leaves.count_ones() as usize)?;
        Some(Self { leaves, roots })
    }
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
    fn a_frontier_grows_as_the_tree_does() {
        let leaves: Vec<Hash> =
            (0..=255u8).map(|i| leaf(&[i])).chain((0..=255).map(|i| leaf(&[i, i]))).collect();
        let mut frontier = Frontier::default();
        for n in 0..leaves.len() {
            assert_eq!(frontier.root(), root(&leaves[..n]), "{n}");
            let bytes = frontier.to_bytes();
            assert_eq!(Frontier::from_bytes(n as u64, &bytes), Some(frontier.clone()));
            assert_eq!(
                Frontier::from_bytes(n as u64 + 1, &bytes).is_some(),
                (n as u64 + 1).count_ones() == (n as u64).count_ones()
            );
            assert_eq!(Frontier::from_bytes(n as u64, &[&bytes[..], &[0]].concat()), None);
            frontier.push(leaves[n]);
        }
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
